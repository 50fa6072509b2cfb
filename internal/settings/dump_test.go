package settings_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"sidecar/internal/settings"
)

func TestExplain(t *testing.T) {
	f := files{"config/default.toml": everything}
	_, e, err := load(t, f, []string{"LOGSHIP_OUTPUT__TLS__CA=/env"}, "", "output.labels.team=web")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, key := range []string{
		"name", " output.url ", "output.timeout", "output.max_frame", "output.tls.ca", "output.tls.insecure", "output.rate",
		"output.labels", "output.labels.team", "output.labels.env", `output.labels."a b"`, "output.http.token", "units", "grid",
		"rule", "rule[0].match", `rule[0].match."field.path"`, "rule[0].step[1].wait", "rule[1].action", "target.api.key", "level.map.audit",
		"", "output", "rule[1]", "output.uri", "url", "rule[2].action", "zzzzzz", "output.\nurl",
	} {
		value, origin, err := e.Explain(key)
		var se *settings.Error
		switch {
		case err == nil:
			fmt.Fprintf(&b, "%s = %s (%s)\n", strings.TrimSpace(key), value, origin)
		case errors.As(err, &se):
			fmt.Fprintf(&b, "%v\n", err)
		default:
			t.Errorf("%s: got %T, want *Error", key, err)
		}
	}
	golden(t, "testdata/explain.golden", b.String())
}

func TestErrorfNamesThePlace(t *testing.T) {
	f := files{"config/default.toml": "\n[output]\nurl = 'ftp://x'\n[[rule]]\n[[rule]]\naction = 'x'\n[target.a]\ntags=[\n'x']"}
	_, e, err := load(t, f, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"output.url":       `config/default.toml:3: set output.url: want gelf+tcp, found "ftp"`,
		"name":             `set name: want gelf+tcp, found "ftp"`,
		"output.rate":      `set output.rate: want gelf+tcp, found "ftp"`,
		"rule[0].action":   `config/default.toml:4: set rule[0].action: want gelf+tcp, found "ftp"`,
		"rule[1].step":     `config/default.toml:5: set rule[1].step: want gelf+tcp, found "ftp"`,
		"rule[1].action":   `config/default.toml:6: set rule[1].action: want gelf+tcp, found "ftp"`,
		"target.a.url":     `config/default.toml:7: set target.a.url: want gelf+tcp, found "ftp"`,
		"target.a.tags[0]": `config/default.toml:9: set target.a.tags[0]: want gelf+tcp, found "ftp"`,
	} {
		if err := e.Errorf(key, "want gelf+tcp, found %q", "ftp"); err.Error() != want {
			t.Errorf("got %s, want %s", err, want)
		}
	}
}

func TestDumpLoadsBack(t *testing.T) {
	a, e, err := load(t, files{"config/default.toml": everything}, []string{"LOGSHIP_OUTPUT__TLS__CA=/env"}, "", "debug=false")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/dump.golden", checkDump(t, a, e))
}

// checkDump returns what e dumps, after checking that it loads back to a.
func checkDump(t *testing.T, a *app, e *settings.Effective) string {
	t.Helper()
	var b strings.Builder
	if err := e.Dump(&b); err != nil {
		t.Fatal(err)
	}
	again, _, err := load(t, files{"config/default.toml": b.String()}, nil, "")
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if diff := compare(a, again); diff != "" {
		t.Errorf("%s\n%s", diff, b.String())
	}
	return b.String()
}

func TestDumpReturnsWriteError(t *testing.T) {
	_, e, err := load(t, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Dump(w); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(everything), "1s", "output.url=x")
	f.Add([]byte("# @include \"default.toml\"\n[[rule]]\n[rule.match]\na='b'\r\n"), "[1", `a."b`)
	f.Add([]byte("\xef\xbb\xbf[output]\nlabels = {\n'a.b' = 'c', # d\n}\n\x00"), "{", "grid=[[1],[]]")
	f.Add([]byte("rates = [inf, -nan, -0.0, 1e5]\nports=[0b1,0o7]"), "a,b", "rates=[1]")
	f.Fuzz(func(t *testing.T, file []byte, value, set string) {
		env := []string{"LOGSHIP_UNITS=" + value, "LOGSHIP_OUTPUT__LABELS=" + value, "LOGSHIP_RULE=" + value}
		for _, c := range []struct {
			files files
			env   []string
			set   []string
		}{
			{files: files{"config/default.toml": string(file)}},
			{env: env[:1]}, {env: env[1:2]}, {env: env[2:]},
			{set: []string{set}},
		} {
			a, e, err := load(t, c.files, c.env, "", c.set...)
			if err != nil {
				checkErrors(t, err)
				continue
			}
			checkDump(t, a, e)
		}
	})
}
