"""Templates drawn at random, for test_chat_template_oracle.py."""

JSON_STYLES = ["", "(indent=2)", "(ensure_ascii=true)", "(separators=(',', ':'))"]


class Program:
    """Draws a template that mostly means something."""

    def __init__(self, rng):
        self.rng = rng
        self.locals = ["s", "n", "f", "l", "d", "u", "nil", "t", "messages"]
        self.loops = 0

    def one_of(self, *choices):
        return self.rng.choice(choices)()

    def string(self):
        return self.rng.choice(["'a'", "''", "' b '", "'é\\n'", '"x,y,z"', "'A-b_c'", "'7'", "'user'",
                                "'it\\'s'", "'\\u65e5本'", "'<|e|>'"])

    def name(self):
        return self.rng.choice(self.locals + (["m", "loop.index", "loop.index0", "loop.first", "loop.last",
                                               "loop.length", "m.role", "m['content']", "loop.revindex",
                                               "loop.previtem", "loop.nextitem.role"] if self.loops else []))

    def integer(self):
        return str(self.rng.randrange(-3, 6))

    def text(self, depth):
        if depth <= 0:
            return self.rng.choice([self.string, lambda: "s", lambda: "m.content" if self.loops else "s"])()
        d = depth - 1
        return self.one_of(
            lambda: f"({self.text(d)} + {self.text(d)})",
            lambda: f"({self.any(d)} ~ {self.any(d)})",
            lambda: f"{self.text(d)}.{self.rng.choice(['strip', 'lstrip', 'rstrip', 'upper', 'lower', 'title', 'capitalize'])}()",
            lambda: f"{self.text(d)}.strip({self.string()})",
            lambda: f"({self.text(d)}|{self.rng.choice(['trim', 'upper', 'lower', 'title', 'capitalize', 'string', 'safe', 'reverse'])})",
            lambda: f"({self.text(d)}|replace({self.string()}, {self.string()}))",
            lambda: f"{self.text(d)}.replace({self.string()}, {self.string()}, {self.integer()})",
            lambda: f"({self.list(d)}|join({self.string()}))",
            lambda: f"{self.string()}.join({self.list(d)})",
            lambda: f"{self.text(d)}[{self.integer()}]",
            lambda: f"{self.text(d)}[{self.slice()}]",
            lambda: f"({self.any(d)}|tojson{self.rng.choice(JSON_STYLES)})",
            lambda: f"{self.text(d)} * {self.integer()}",
            lambda: f"({self.any(d)}|default({self.string()}{self.rng.choice(['', ', true'])}))",
            lambda: f"{self.text(d)}.split({self.string()})[{self.integer()}]",
        )

    def slice(self):
        part = lambda: self.rng.choice(["", self.integer()])
        return f"{part()}:{part()}" + self.rng.choice(["", f":{self.rng.choice(['1', '2', '-1', '-2'])}"])

    def number(self, depth):
        if depth <= 0:
            return self.rng.choice([self.integer(), "n", "f", "1.5", "2e2"])
        d = depth - 1
        return self.one_of(
            lambda: f"({self.number(d)} {self.rng.choice(['+', '-', '*', '/', '//', '%'])} {self.number(d)})",
            lambda: f"({self.any(d)}|length)",
            lambda: f"-{self.number(d)}",
            lambda: f"({self.any(d)}|int)",
            lambda: f"({self.number(d)}|abs)",
            lambda: f"{self.text(d)}.find({self.string()})",
            lambda: f"{self.text(d)}.count({self.string()})",
        )

    def list(self, depth):
        if depth <= 0:
            return self.rng.choice(["l", "messages", "[]", "[1, 'b', none]", "['x', 'y']"])
        d = depth - 1
        return self.one_of(
            lambda: f"[{self.any(d)}, {self.any(d)}]",
            lambda: f"{self.list(d)}[{self.slice()}]",
            lambda: f"({self.list(d)} + {self.list(d)})",
            lambda: f"{self.text(d)}.split({self.rng.choice(['', self.string(), self.string() + ', 1'])})",
            lambda: f"({self.rng.choice([self.list, self.text])(d)}|list)",
            lambda: f"(messages|{self.rng.choice(['select', 'reject'])}attr('role', '{self.rng.choice(['equalto', 'ne', 'in'])}', {self.text(0)})|list)",
            lambda: f"(messages|map(attribute='{self.rng.choice(['role', 'content', 'none'])}')|list)",
            lambda: f"({self.list(d)}|{self.rng.choice(['select', 'reject'])}('{self.rng.choice(['string', 'none', 'defined'])}')|list)",
            lambda: f"({self.list(d)}|reverse|list)",
            lambda: f"(range({self.integer()})|list)",
            lambda: "(d.values()|list)",
            lambda: "(d|list)",
            lambda: f"({self.list(d)}|map('{self.rng.choice(['string', 'trim', 'length'])}')|list)",
        )

    def truth(self, depth):
        d = depth - 1
        if depth <= 0:
            return self.rng.choice(["t", "true", "false", "n > 1"])
        return self.one_of(
            lambda: f"({self.any(d)} {self.rng.choice(['==', '!='])} {self.any(d)})",
            lambda: f"({self.number(d)} {self.rng.choice(['<', '<=', '>', '>='])} {self.number(d)})",
            lambda: f"({self.text(d)} {self.rng.choice(['<', '>='])} {self.text(d)})",
            lambda: f"({self.text(d)} {self.rng.choice(['in', 'not in'])} {self.rng.choice([self.text, self.list])(d)})",
            lambda: f"({self.any(d)} in {self.list(d)})",
            lambda: f"(not {self.any(d)})",
            lambda: f"({self.truth(d)} {self.rng.choice(['and', 'or'])} {self.any(d)})",
            lambda: f"({self.any(d)} is {self.rng.choice(['', 'not '])}{self.rng.choice(['defined', 'undefined', 'none', 'string', 'mapping', 'iterable', 'sequence', 'number', 'integer', 'float', 'boolean', 'true', 'false'])})",
            lambda: f"({self.number(d)} is {self.rng.choice(['odd', 'even', 'divisibleby 2', 'equalto(1)', 'eq 2'])})",
            lambda: f"{self.text(d)}.{self.rng.choice(['startswith', 'endswith'])}({self.string()})",
            lambda: f"(1 < {self.number(d)} <= 4)",
            lambda: f"('a' in d)",
        )

    def any(self, depth):
        if depth <= 0 or self.rng.random() < 0.2:
            return self.name()
        d = depth - 1
        return self.one_of(
            lambda: self.text(d), lambda: self.number(d), lambda: self.list(d), lambda: self.truth(d),
            lambda: f"({self.any(d)} if {self.truth(d)} else {self.any(d)})",
            lambda: f"({self.any(d)} if {self.truth(d)})",
            lambda: f"({self.any(d)} or {self.any(d)})",
            lambda: f"({self.any(d)} and {self.any(d)})",
            lambda: f"({self.list(d)}|{self.rng.choice(['first', 'last'])})",
            lambda: f"{self.list(d)}[{self.integer()}]",
            lambda: f"messages[{self.integer()}].{self.rng.choice(['role', 'content', 'x'])}",
            lambda: self.rng.choice(["d.a", "d['b']", "d.get('a')", "d.get('x', 3)", "d.b.c", "d.zz", "d['a'].q",
                                     "{'k': 1, 'j': [2]}", "nil.x"]),
        )

    def sign(self):
        return self.rng.choice(["", "", "-"])

    def tag(self, inside):
        begin = self.rng.choice(["{%", "{%", "{%-", "{%+"])
        end = self.rng.choice(["%}", "%}", "-%}", "+%}"])
        return f"{begin} {inside} {end}"

    def space(self):
        return self.rng.choice(["", "", " ", "\n", "\n  ", "  \n", "x", " y\n", "\t", "é\n\n", "\u00a0\n"])

    def block(self, depth):
        return "".join(self.space() + self.statement(depth) for _ in range(self.rng.randrange(1, 4))) + self.space()

    def statement(self, depth):
        d = depth - 1
        shown = self.rng.choice([self.text, self.text, self.number, self.truth, self.any])
        show = lambda: f"{{{{{self.sign()} {shown(3)} {self.sign()}}}}}"
        if depth <= 0:
            return show()
        return self.one_of(
            show, show,
            lambda: self.tag(f"if {self.truth(2)}") + self.block(d)
            + (self.tag(f"elif {self.any(2)}") + self.block(d) if self.rng.random() < 0.3 else "")
            + (self.tag("else") + self.block(d) if self.rng.random() < 0.5 else "") + self.tag("endif"),
            lambda: self.loop(d), lambda: self.loop(d),
            lambda: self.assignment(),
            lambda: self.tag("set out") + self.block(d) + self.tag("endset") + "{{ out }}",
            lambda: self.tag("set ns.v = " + self.any(2)) + f"{{{{ ns.v }}}}",
            lambda: f"{{#{self.sign()} {{{{ x }}}} {self.sign()}#}}",
            lambda: f"{{{{ shout({self.any(2)}{self.rng.choice(['', ', end=' + self.text(1)])}) }}}}",
        )

    def assignment(self):
        # No variable from outside: Jinja finds one undefined in a loop before the template sets it.
        name = self.rng.choice(["v", "w"])
        text = self.tag(f"set {name} = {self.any(2)}")
        if name not in self.locals:
            self.locals.append(name)
        return text

    def loop(self, depth):
        header = self.rng.choice([f"for m in messages", f"for m in {self.list(2)}", f"for m in {self.text(1)}",
                                  "for k, m in d.items()", "for k, m in d|items", "for m in d", "for m in u"])
        if self.rng.random() < 0.2:
            header += f" if {self.rng.choice(['m', 'm != s', 'm is string', 'm is mapping'])}"
        self.loops += 1
        text = self.tag(header) + self.block(depth)
        if self.rng.random() < 0.1:
            text += self.tag(f"if {self.truth(1)}") + self.tag(self.rng.choice(["break", "continue"])) + self.tag("endif")
            text += self.block(depth)
        self.loops -= 1
        if self.rng.random() < 0.3:
            text += self.tag("else") + self.block(depth)
        return text + self.tag("endfor")

    def template(self):
        return ("{% set ns = namespace(v=0) %}{% macro shout(x, end='!') %}{{ x }}{{ end }}{% endmacro %}"
                + self.block(2) + self.space())
