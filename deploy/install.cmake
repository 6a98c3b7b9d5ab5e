# `cmake --install` and the Debian package (`cpack -G DEB` in the build folder).
include(GNUInstallDirs)
install(TARGETS based-server based RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY models/demo DESTINATION ${CMAKE_INSTALL_DATADIR}/based/models)
install(DIRECTORY proto/based DESTINATION ${CMAKE_INSTALL_DATADIR}/based/proto)
install(FILES README.md LICENSE SECURITY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)  # as Debian names it
# Its ExecStart is where the package puts the daemon.
install(FILES deploy/systemd/based-server.service DESTINATION lib/systemd/system)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME based-serve)
set(CPACK_PACKAGE_VENDOR "The based-serve authors")
set(CPACK_PACKAGE_CONTACT "The based-serve authors <maintainers@based-serve.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "gRPC server for BASED language models with constant-size state")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_STRIP_FILES ON)
include(CPack)
