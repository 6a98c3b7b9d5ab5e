#include "kernels/backends.h"
