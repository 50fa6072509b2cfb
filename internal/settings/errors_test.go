package settings_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sidecar/internal/settings"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestErrorTexts(t *testing.T) {
	long := strings.Repeat("x", 100)
	d := func(text string) files { return files{"config/default.toml": text} }
	var all strings.Builder
	for _, c := range []struct {
		name  string
		files files
		env   []string
		file  string
		set   []string
	}{
		{name: "unknown key", files: d("[output]\nuri = 1\n")},
		{name: "unknown key, swapped letters", files: d("untis = []")},
		{name: "unknown key in another table", files: d("url = 'x'")},
		{name: "unknown key like no other", files: d("zzz = 1\n[output.tls]\nqqqq = 1")},
		{name: "unknown table", files: d("\n[ouput]\nurl = 1\nnope = 2")},
		{name: "unknown in array of tables", files: d("[[rule]]\naction = 'a'\n[[rule]]\nacton = 'b'\nstep = [{wat = '1s'}]")},
		{name: "unknown in map of tables", files: d("[target.\"a b\"]\nurll = 'x'")},
		{name: "unknown key with control characters", files: d(`"a\nb\u001b" = 1`)},
		{name: "unknown, wrong case", files: d("[output]\nURL = 'x'")},
		{name: "wrong types", files: d("name = 1\ndebug = 'yes'\nunits = 'a'\nports = ['x', 1, [2], {}]\nrule = {}\n[output]\nurl = ['a']\nudp_chunk = 1.5\nrate = '1'\ntls = 3\nlabels = []\n[level]\nmap.a = true\nmap.b = 2026-01-02")},
		{name: "out of range", files: d("[output]\nsmall = 128\nport = -1\nudp_chunk = 9223372036854775807\n[[rule]]\n")},
		{name: "unsigned too large", files: d("[output]\nport = 65536")},
		{name: "duration and size", files: d("pauses = ['10', '1w', '-1s', 5, '200000d', '1d-1h', 1.5]\n[output]\ntimeout = '10 s'\nmax_frame = '4 MiBs'")},
		{name: "size", files: d("output.max_frame = -1"), set: []string{"output.max_frame=9999999TiB", "output.max_frame=K", "output.max_frame=1.5MiB", "output.max_frame=[1]"}},
		{name: "own text type", files: d("color = 'blue'"), set: []string{"color=1"}},
		{name: "text type of another kind", files: d("color = true")},
		{name: "long value is cut", files: d("debug = '" + long + "'")},
		{name: "secret is not shown", files: d("[output.http]\ntoken = 'hunter2'\n[target.a]\nkey = 4711"), env: []string{"LOGSHIP_OUTPUT__HTTP__TOKEN=hunter2"}, set: []string{"output.http.token=env:hunter 2", "output.http.token=cred:../x", "output.http.token=file:rel"}},
		{name: "secret of another type is not shown", files: d("[output.http]\ntoken = 47.11\n[target.a]\nkey = ['hunter2']\n[target.b]\nkey = true\n[target.c]\nkey={hunter2=1}\n[target.d]\nkey = 2026-01-01")},
		{name: "syntax", files: d("a = 1\nb = x\n")},
		{name: "syntax at the end", files: d("name = ")},
		{name: "not closed", files: d("[output\n")},
		{name: "duplicate key", files: d("name = 'a'\nname = 'b'")},
		{name: "duplicate table", files: d("[output]\n[output]\n")},
		{name: "NUL", files: d("name = 'a\x00'")},
		{name: "NUL at the start", files: d("\x00")},
		{name: "bare CR", files: d("name = 'a'\rdebug = true")},
		{name: "not UTF-8", files: d("name = '\xff'")},
		{name: "UTF-16", files: d("\xff\xfen\x00")},
		{name: "BOM does not move the column", files: d("\xef\xbb\xbfname = ?")},
		{name: "integer beyond 64 bits", files: d("ports = [99999999999999999999]")},
		{name: "missing --config", file: "/etc/x.toml"},
		{name: "missing APP_CONFIG", env: []string{"LOGSHIP_CONFIG=/etc/x.toml"}},
		{name: "missing NODE_CONFIG_PATH", env: []string{"NODE_CONFIG_PATH=/etc/x.toml", "LOGSHIP_CONFIG="}},
		{name: "unreadable", file: "/etc/x.toml", files: files{"/etc/x.toml": "EACCES", "config/default.toml": "EACCES"}},
		{name: "directory", file: "/etc", files: files{"/etc/x.toml": ""}},
		{name: "unreadable conf.d", file: "/etc/x.toml", files: files{"/etc/x.toml": "", "/etc/conf.d": "EACCES"}},
		{name: "conf.d is a file", file: "/etc/x.toml", files: files{"/etc/x.toml": "", "/etc/conf.d": "a file"}},
		{name: "too large", files: d(strings.Repeat("#", 1<<20) + "\n")},
		{name: "environment name is a path", env: []string{"NODE_ENV=../../x"}},
		{name: "include missing", files: d("name = 'a'\n# @include \"b.toml\"")},
		{name: "include without quotes", files: d("# @include b.toml")},
		{name: "include nothing", files: d("#@include \"\" ")},
		{name: "include wildcard in the middle", files: d("# @include \"*/b.toml\"")},
		{name: "include wildcard not closed", files: d("# @include \"[a\"")},
		{name: "include itself", files: files{"config/default.toml": "# @include \"b.toml\"", "config/b.toml": "\n# @include './default.toml'"}},
		{name: "include error is in the included file", files: files{"config/default.toml": "# @include \"b/*.toml\"", "config/b/x.toml": "\nx = 1"}},
		{name: "include unreadable", files: files{"config/default.toml": "# @include \"b/*.toml\"", "config/b": "EACCES"}},
		{name: "include too deep", files: chain(10)},
		{name: "variable unknown", env: []string{"LOGSHIP_OUTPUT__URI=x", "LOGSHIP_OUTPUT_URL=x", "LOGSHIP_QQQQQQ=1"}},
		{name: "variable of wrong type", env: []string{"LOGSHIP_DEBUG=yes", "LOGSHIP_PORTS=1,x", "LOGSHIP_OUTPUT=3", "LOGSHIP_OUTPUT__UDP_CHUNK=", "LOGSHIP_OUTPUT__TIMEOUT=soon"}},
		{name: "variable is no TOML", env: []string{"LOGSHIP_PORTS=[1", "LOGSHIP_RULE=[]\ndebug = true", "LOGSHIP_LEVEL__MAP={a=1", "LOGSHIP_NAME=\xff", "LOGSHIP_LEVEL__MAP__\xff=1"}},
		{name: "array of tables from a list", env: []string{"LOGSHIP_RULE=drop"}},
		{name: "set", set: []string{"name", "=x", "a b=1", "output.uri=1", "debug=1", "x\ny=1", "rule[0].action=x"}},
		{name: "sorted by place, at once", files: files{"config/default.toml": "b = 1\na = 1", "config/x.toml": "c = 1"}, env: []string{"LOGSHIP_ENV=x", "LOGSHIP_D=1"}, set: []string{"e=1"}, file: "/none"},
	} {
		_, e, err := load(t, c.files, c.env, c.file, c.set...)
		if err == nil || e != nil {
			t.Errorf("%s: got no error", c.name)
			continue
		}
		checkErrors(t, err)
		fmt.Fprintf(&all, "== %s\n%s\n", c.name, err)
	}
	if strings.Contains(all.String(), "hunter2") {
		t.Error("a secret is shown")
	}
	golden(t, "testdata/errors.golden", all.String())
}

// checkErrors checks what Load promises of any error.
func checkErrors(t *testing.T, err error) {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %T, want a join", err)
	}
	for _, err := range joined.Unwrap() {
		var e *settings.Error
		if !errors.As(err, &e) {
			t.Errorf("got %T, want *Error", err)
		}
		if strings.ContainsAny(err.Error(), "\n\r\x00\x1b") || !utf8.ValidString(err.Error()) {
			t.Errorf("got %q, want one clean line", err)
		}
	}
}

// golden compares got with a file, which -update rewrites.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s, rewrite it with -update: %s", name, diff)
	}
}

// chain returns n files, each of which includes the next one.
func chain(n int) files {
	f := files{}
	name := "config/default.toml"
	for i := range n {
		next := "x" + strings.Repeat("x", i) + ".toml"
		f[name] = "# @include \"" + next + "\""
		name = "config/" + next
	}
	f[name] = ""
	return f
}
