package settings_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sidecar/internal/settings"
)

func TestLayersOverrideInOrder(t *testing.T) {
	f := files{
		"config/default.toml":    "name = 'default.toml'",
		"config/production.toml": "name = 'production.toml'",
		"/etc/l/main.toml":       "# @include \"inc/*.toml\"\nname = 'main'",
		"/etc/l/inc/a.toml":      "name = 'inc a'\nunits = ['from inc']",
		"/etc/l/conf.d/b.toml":   "name = 'conf.d b'",
		"/etc/l/conf.d/a.toml":   "name = 'conf.d a'",
	}
	env := []string{"LOGSHIP_ENV=production", "LOGSHIP_CONFIG=/etc/l/main.toml", "LOGSHIP_NAME=env"}
	check := func(wantValue, wantOrigin string, drop func()) {
		t.Helper()
		_, e, err := load(t, f, env, "", map[bool][]string{true: {"name=x", "name=set"}}[wantOrigin == "--set"]...)
		if err != nil {
			t.Fatal(err)
		}
		value, origin, err := e.Explain("name")
		if err != nil || value != wantValue || origin.String() != wantOrigin {
			t.Errorf("got %s from %s, %v; want %s from %s", value, origin, err, wantValue, wantOrigin)
		}
		drop()
	}
	check(`"set"`, "--set", func() {})
	check(`"env"`, "LOGSHIP_NAME", func() { env = env[:2] })
	check(`"conf.d b"`, "/etc/l/conf.d/b.toml:1", func() { delete(f, "/etc/l/conf.d/b.toml") })
	check(`"conf.d a"`, "/etc/l/conf.d/a.toml:1", func() { delete(f, "/etc/l/conf.d/a.toml") })
	check(`"main"`, "/etc/l/main.toml:2", func() { f["/etc/l/main.toml"] = "# @include 'inc/*.toml'" })
	check(`"inc a"`, "/etc/l/inc/a.toml:1", func() { f["/etc/l/main.toml"] = "" })
	check(`"production.toml"`, "config/production.toml:1", func() { delete(f, "config/production.toml") })
	check(`"default.toml"`, "config/default.toml:1", func() { delete(f, "config/default.toml") })
	check(`"default"`, "default", func() {})
}

// TestDirOfTheDefaults: daemons that share a root have a directory each.
func TestDirOfTheDefaults(t *testing.T) {
	f := files{"config/default.toml": "nonsense", "config/x/default.toml": "", "config/x/e.toml": "", "/c/default.toml": ""}
	for env, want := range map[string][]string{"": {"config/x/default.toml"}, "X_ENV=e": {"config/x/default.toml", "config/x/e.toml"}, "X_CONFIG_DIR=/c": {"/c/default.toml"}} {
		e, err := settings.Load(defaults(), settings.Options{App: "x", Dir: "config/x", Env: []string{env}, Open: f.open})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, e.Files()); diff != "" {
			t.Errorf("%s: %s", env, diff)
		}
	}
}

// TestInstalledDaemon: what is typed on a server without more words is about the daemon
// that runs there, but not in the directory of an application, nor where a file is named.
func TestInstalledDaemon(t *testing.T) {
	const system = "/etc/logship/"
	installed := files{
		system + "default.toml": "", system + "production.toml": "", system + "logship.toml": "", system + "conf.d/a.toml": "",
		"/c/default.toml": "", "/c/my.toml": "",
	}
	load := func(f files, env, file string) ([]string, error) {
		e, err := settings.Load(defaults(), settings.Options{App: "logship", System: "/etc/logship", Env: []string{env}, File: file, Open: f.open})
		if err != nil {
			return nil, err
		}
		return e.Files(), nil
	}
	for _, c := range []struct {
		env, file string
		want      []string
	}{
		{"", "", []string{system + "default.toml", system + "logship.toml", system + "conf.d/a.toml"}},
		{"NODE_ENV=production", "", []string{system + "default.toml", system + "production.toml", system + "logship.toml", system + "conf.d/a.toml"}},
		{"", "/c/my.toml", []string{"/c/my.toml"}},
		{"LOGSHIP_CONFIG=/c/my.toml", "", []string{"/c/my.toml"}},
		{"NODE_CONFIG_PATH=/c/my.toml", "", []string{"/c/my.toml"}},
		{"LOGSHIP_CONFIG_DIR=/c", "", []string{"/c/default.toml"}},
	} {
		got, err := load(installed, c.env, c.file)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%q, --config %q: %v %s", c.env, c.file, err, diff)
		}
	}
	if got, err := load(files{}, "", ""); err != nil || len(got) != 0 {
		t.Errorf("nothing is installed: %q, %v", got, err)
	}
	installed[system+"logship.toml"] = "EACCES"
	if _, err := load(installed, "", ""); err == nil || !strings.Contains(err.Error(), "read /etc/logship/logship.toml: permission denied") {
		t.Errorf("the file may not be read: %v", err)
	}
	for _, text := range []string{"", "EACCES"} {
		installed["config/default.toml"] = text
		if got, _ := load(installed, "", ""); slices.ContainsFunc(got, func(name string) bool { return strings.HasPrefix(name, system) }) {
			t.Errorf("config/default.toml (%q) is there, and %q is read", text, got)
		}
	}
}

func TestFilesReadInOrder(t *testing.T) {
	f := files{
		"/c/default.toml":     "# @include \"inc.toml\"\n",
		"/c/inc.toml":         "",
		"/c/staging.toml":     "",
		"/etc/main.toml":      "# @include \"x/*.toml\"\n# @include '/abs.toml'\n",
		"/etc/x/2.toml":       "# @include \"../main.toml*\"\n", // by wildcard: passes over main.toml itself
		"/etc/x/10.toml":      "",
		"/etc/x/.hidden.toml": "nonsense",
		"/etc/x/other.conf":   "nonsense",
		"/abs.toml":           "",
		"/etc/conf.d/b.toml":  "",
		"/etc/conf.d/a.toml":  "# @include \"none/*.toml\"",
	}
	env := []string{"LOGSHIP_CONFIG_DIR=/c", "NODE_ENV=staging", "NODE_CONFIG_PATH=/wrong", "LOGSHIP_CONFIG=/wrong"}
	_, e, err := load(t, f, env, "/etc/main.toml")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/c/inc.toml", "/c/default.toml", "/c/staging.toml", "/etc/x/10.toml", "/etc/x/2.toml",
		"/abs.toml", "/etc/main.toml", "/etc/conf.d/a.toml", "/etc/conf.d/b.toml"}
	if diff := cmp.Diff(want, e.Files()); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentName(t *testing.T) {
	f := files{"config/a.toml": "name = 'a'", "config/b.toml": "name = 'b'"}
	for _, c := range []struct {
		want string
		env  []string
	}{
		{"default", nil},
		{"default", []string{"LOGSHIP_ENV=missing"}},
		{"default", []string{"LOGSHIP_ENV=default"}},
		{"a", []string{"LOGSHIP_ENV=a", "NODE_ENV=b"}},
		{"a", []string{"LOGSHIP_ENV=a", "LOGSHIP_ENV=b"}}, // as os.Getenv, the first one
		{"b", []string{"LOGSHIP_ENV=", "NODE_ENV=b"}},
		{"default", []string{"HEALTHD_ENV=a", "HEALTHD_NAME=x", "LOGSHIPNAME=x", "NAME=x"}},
	} {
		a, _, err := load(t, f, c.env, "")
		if err != nil || a.Name != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.env, a.Name, err, c.want)
		}
	}
}

func TestPrefixOfAnotherDaemon(t *testing.T) {
	a := defaults()
	_, err := settings.Load(a, settings.Options{App: "health-d", Env: []string{"HEALTH_D_NAME=x", "LOGSHIP_NAME=y"}, Open: files{}.open})
	if err != nil || a.Name != "x" {
		t.Errorf("got %q, %v", a.Name, err)
	}
}

func TestTablesMergeArraysReplace(t *testing.T) {
	shared := map[string]string{"env": "dev", "team": "core"}
	a := defaults()
	a.Output.Labels = shared
	f := files{
		"config/default.toml": "rule = [{action = 'a', rate = 1.0}, {action = 'b'}]\n[target]\nx = {url = 'u', tags = ['t']}\n[output]\nurl = 'u'\nlabels.env = 'prod'",
		"config/prod.toml":    "units = []\n[[rule]]\naction = 'c'\n[target.x]\nurl = 'v'\n[output]\nlabels.zone = 'z'\n[output.tls]\nca = '/ca'",
	}
	e, err := settings.Load(a, settings.Options{App: "logship", Env: []string{"LOGSHIP_ENV=prod"}, Open: f.open})
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Units = nil
	want.Rule = []rule{{Action: "c"}}
	want.Target = map[string]target{"x": {URL: "v", Tags: []string{"t"}}}
	want.Output.URL, want.Output.TLS.CA = "u", "/ca"
	want.Output.Labels = map[string]string{"env": "prod", "team": "core", "zone": "z"}
	if diff := compare(want, a); diff != "" {
		t.Error(diff)
	}
	if shared["env"] != "dev" || len(shared) != 2 {
		t.Errorf("the defaults' map was changed: %v", shared)
	}
	if _, origin, err := e.Explain("rule[0].rate"); err != nil || origin != (settings.Origin{}) {
		t.Errorf("rule[0].rate has an origin of the replaced array: %v, %v", origin, err)
	}
}

func TestValuesFromEnvironmentAndSet(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       func(*app) // nil: an error
	}{
		{"NAME", "x", func(a *app) { a.Name = "x" }},
		{"name", "$HOME ${X} ", func(a *app) { a.Name = "$HOME ${X} " }},
		{"NAME", `"q"`, func(a *app) { a.Name = `"q"` }},
		{"NAME", "[1]", func(a *app) { a.Name = "[1]" }},
		{"NAME", "", func(a *app) { a.Name = "" }},
		{"DEBUG", " true ", func(a *app) { a.Debug = true }},
		{"UNITS", "a, b ,c", func(a *app) { a.Units = []string{"a", "b", "c"} }},
		{"UNITS", `["a, b", 'c']`, func(a *app) { a.Units = []string{"a, b", "c"} }},
		{"UNITS", "", func(a *app) { a.Units = nil }},
		{"UNITS", "a,", func(a *app) { a.Units = []string{"a", ""} }},
		{"PORTS", "1,0x10", func(a *app) { a.Ports = []int{1, 16} }},
		{"RATES", "1,.5e0", nil},
		{"RATES", "1,0.5,1_0.5", func(a *app) { a.Rates = []float64{1, 0.5, 10.5} }},
		{"PAUSES", "1s,2d", func(a *app) { a.Pauses = []settings.Duration{1e9, 2 * 24 * 3600e9} }},
		{"GRID", "[[1],[2,3]]", func(a *app) { a.Grid = [][]int{{1}, {2, 3}} }},
		{"RULE", "[{action='x'}]", func(a *app) { a.Rule = []rule{{Action: "x"}} }},
		{"COLOR", "green", func(a *app) { a.Color = "green" }},
		{"OUTPUT__MAX_FRAME", "1MiB", func(a *app) { a.Output.Max = 1 << 20 }},
		{"OUTPUT__MAX_FRAME", "4096", func(a *app) { a.Output.Max = 4096 }},
		{"Output__Timeout", "2d", func(a *app) { a.Output.Timeout = 2 * 24 * 3600e9 }},
		{"OUTPUT__TLS__INSECURE", "true", func(a *app) { a.Output.TLS.Insecure = true }},
		{"OUTPUT__LABELS__TEAM", "web", func(a *app) { a.Output.Labels["team"] = "web" }},
		{"OUTPUT__LABELS", "{team = 'web', a = 'b'}", func(a *app) { a.Output.Labels["team"], a.Output.Labels["a"] = "web", "b" }},
		{"LEVEL__MAP__AUDIT", "5", func(a *app) { a.Level.Map = map[string]int{"audit": 5} }},
		{"TARGET__API__URL", "u", func(a *app) { a.Target = map[string]target{"api": {URL: "u"}} }},
		{"OUTPUT__RATE", "1", func(a *app) { a.Output.Rate = 1 }},
		{"OUTPUT__UDP_CHUNK", "+7", func(a *app) { a.Output.Chunk = 7 }},
		{"NOPE", "1", nil},
		{"OUTPUT___URL", "x", nil},
		{"", "x", nil},
	} {
		check := func(how string, a *app, err error) {
			t.Helper()
			if c.want == nil {
				if err == nil {
					t.Errorf("%s %s=%s: got no error", how, c.key, c.value)
				}
				return
			}
			want := defaults()
			c.want(want)
			if err != nil {
				t.Errorf("%s %s=%s: %v", how, c.key, c.value, err)
			} else if diff := compare(want, a); diff != "" {
				t.Errorf("%s %s=%s: %s", how, c.key, c.value, diff)
			}
		}
		a, _, err := load(t, nil, []string{"LOGSHIP_" + c.key + "=" + c.value}, "")
		check("environment", a, err)
		a, _, err = load(t, nil, nil, "", strings.ToLower(strings.ReplaceAll(c.key, "__", "."))+"="+c.value)
		check("set", a, err)
	}
}

func TestSetQuotedKeyAndOrder(t *testing.T) {
	a, e, err := load(t, nil, nil, "", `output.labels."req.id" = a=b`, "name=1", "name=2")
	if err != nil || a.Output.Labels["req.id"] != " a=b" || a.Name != "2" {
		t.Fatalf("got %q, %q, %v", a.Output.Labels, a.Name, err)
	}
	if _, origin, err := e.Explain(`output.labels."req.id"`); err != nil || origin.String() != "--set" {
		t.Errorf("got %v, %v", origin, err)
	}
}

func TestByteOrderMarkAndLineEnds(t *testing.T) {
	for _, text := range []string{
		"name = 'x'\nunits = [\n 'y', # c\n # d\n 'z'\n]\n#:schema https://example.com/x.json\n",
		"\xef\xbb\xbfname = 'x'\r\nunits = [ 'y',\r\n'z' ]\r\n",
		"\xef\xbb\xbf#:schema x\nname = 'x'\nunits = ['y','z']",
		"# comment @include \"nothing\"\nname = 'x' # @include 'not a line of its own'\nunits = ['y','z']",
	} {
		a, _, err := load(t, files{"config/default.toml": text}, nil, "")
		if err != nil || a.Name != "x" || len(a.Units) != 2 || a.Units[1] != "z" {
			t.Errorf("%q: got %q, %q, %v", text, a.Name, a.Units, err)
		}
	}
}

func TestIncludeInsideStringIsText(t *testing.T) {
	a, _, err := load(t, files{"config/default.toml": "name = '''\n# @include \"x.toml\"\n'''"}, nil, "")
	if err != nil || a.Name != "# @include \"x.toml\"\n" {
		t.Errorf("got %q, %v", a.Name, err)
	}
}

func TestIncludeDepthLimit(t *testing.T) {
	if _, _, err := load(t, chain(8), nil, ""); err != nil {
		t.Error(err)
	}
	if _, _, err := load(t, chain(9), nil, ""); err == nil {
		t.Error("got no error one level deeper")
	}
}

func TestWildcardsCannotMultiplyWithoutBound(t *testing.T) {
	f := files{"config/default.toml": "# @include \"*.toml\""}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		f["config/"+name+".toml"] = "# @include \"*.toml\""
	}
	_, _, err := load(t, f, nil, "")
	if err == nil || !strings.Contains(err.Error(), "more than 1000 files") {
		t.Errorf("got %.200v", err)
	}
}

func TestSecretVariableWithOurPrefixIsNoUnknownKey(t *testing.T) {
	f := files{"config/default.toml": "[output.http]\ntoken = 'env:LOGSHIP_TOKEN'"}
	a, _, err := load(t, f, []string{"LOGSHIP_TOKEN=s3cret"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Output.HTTP.Token.Reveal(); err != nil || got != "s3cret" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, _, err := load(t, nil, []string{"LOGSHIP_TOKEN=s3cret"}, ""); err == nil {
		t.Error("got no error without the reference")
	}
}

func TestRealFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.toml":       "# @include \"inc/*.toml\"\n[output.http]\ntoken = 'file:" + dir + "/token'",
		"inc/a.toml":      "name = 'a'",
		"conf.d/x.toml":   "debug = true",
		"conf.d/x.toml~":  "nonsense",
		"token":           "s3cret\r\n\n",
		"conf.d/.#x.toml": "nonsense",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := defaults()
	_, err := settings.Load(a, settings.Options{App: "logship", File: filepath.Join(dir, "main.toml"), Env: []string{"LOGSHIP_CONFIG_DIR=" + dir + "/none"}})
	if err != nil || a.Name != "a" || !a.Debug {
		t.Fatalf("got %q, %v, %v", a.Name, a.Debug, err)
	}
	if got, err := a.Output.HTTP.Token.Reveal(); err != nil || got != "s3cret" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "conf.d/y.toml")); err != nil {
		t.Fatal(err)
	}
	_, err = settings.Load(a, settings.Options{App: "logship", File: filepath.Join(dir, "main.toml")})
	if err == nil || err.Error() != "read "+dir+"/conf.d/y.toml: no such file; create it or correct the link" {
		t.Errorf("got %v", err)
	}
	_, err = settings.Load(a, settings.Options{App: "logship", File: dir})
	if err == nil || err.Error() != "read "+dir+": is a directory; name a file" {
		t.Errorf("got %v", err)
	}
}

// TestLaterLayersWin compares random layers with a model: a map from key to the
// value and place of the last layer that has it.
func TestLaterLayersWin(t *testing.T) {
	keys := []string{"name", "output.url", "output.tls.ca", "output.labels.env", "output.labels.new", "target.x.url", "target.y.url"}
	rapid.Check(t, func(rt *rapid.T) {
		f, model := files{}, map[string][2]string{}
		subset := rapid.SliceOfDistinct(rapid.SampledFrom(keys), rapid.ID[string])
		for _, name := range []string{"config/default.toml", "config/e.toml", "/m/i.toml", "/m/main.toml", "/m/conf.d/1.toml", "/m/conf.d/2.toml"} {
			f[name] = "# @include \"none*.toml\"\n"
			if name == "/m/main.toml" {
				f[name] = "# @include \"i.toml\"\n"
			}
			for i, k := range subset.Draw(rt, name) {
				value := fmt.Sprint(name, i)
				f[name] += fmt.Sprintf("%s = %q\n", k, value)
				model[k] = [2]string{value, fmt.Sprintf("%s:%d", name, i+2)}
			}
		}
		env := []string{"LOGSHIP_ENV=e", "LOGSHIP_CONFIG=/m/main.toml"}
		for _, k := range subset.Draw(rt, "environment") {
			name := "LOGSHIP_" + strings.ToUpper(strings.ReplaceAll(k, ".", "__"))
			env = append(env, name+"=env")
			model[k] = [2]string{"env", name}
		}
		var set []string
		for _, k := range subset.Draw(rt, "set") {
			set = append(set, k+"=set")
			model[k] = [2]string{"set", "--set"}
		}
		_, e, err := load(t, f, env, "", set...)
		if err != nil {
			rt.Fatal(err)
		}
		for k, want := range model {
			value, origin, err := e.Explain(k)
			if err != nil || value != strconv.Quote(want[0]) || origin.String() != want[1] {
				rt.Errorf("%s: got %s from %s, %v; want %q", k, value, origin, err, want)
			}
		}
	})
}

func TestLoadPanicsOnUnsupportedStruct(t *testing.T) {
	for _, dst := range []any{
		nil, app{}, new(int),
		&struct{ A int }{},
		&struct {
			A int `toml:"a"`
			B int `toml:"a"`
		}{},
		&struct {
			A time.Duration `toml:"a"`
		}{},
		&struct {
			A *int `toml:"a"`
		}{},
		&struct {
			A any `toml:"a"`
		}{},
		&struct {
			A map[int]string `toml:"a"`
		}{},
		&struct {
			A [][]rule `toml:"a"`
		}{},
		&struct {
			A badText `toml:"a"`
		}{},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T: got no panic", dst)
				}
			}()
			_, _ = settings.Load(dst, settings.Options{App: "logship", Open: files{}.open})
		}()
	}
}

// badText reads text and cannot write it.
type badText struct{}

func (*badText) UnmarshalText([]byte) error { return nil }
