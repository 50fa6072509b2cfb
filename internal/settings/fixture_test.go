package settings_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sidecar/internal/settings"
)

// app is the configuration of a made-up daemon with every supported type.
type app struct {
	Name   string   `toml:"name"`
	Debug  bool     `toml:"debug"`
	Units  []string `toml:"units"`
	Output struct {
		URL     string            `toml:"url"`
		URLs    []string          `toml:"urls"`
		Timeout settings.Duration `toml:"timeout"`
		Max     settings.Size     `toml:"max_frame"`
		Chunk   int               `toml:"udp_chunk"`
		Small   int8              `toml:"small"`
		Port    uint16            `toml:"port"`
		Rate    float64           `toml:"rate"`
		TLS     struct {
			CA       string `toml:"ca"`
			Insecure bool   `toml:"insecure"`
		} `toml:"tls"`
		HTTP struct {
			Token settings.Secret `toml:"token"`
		} `toml:"http"`
		Labels map[string]string `toml:"labels"`
	} `toml:"output"`
	Level struct {
		Map map[string]int `toml:"map"`
	} `toml:"level"`
	Ports  []int               `toml:"ports"`
	Rates  []float64           `toml:"rates"`
	Pauses []settings.Duration `toml:"pauses"`
	Grid   [][]int             `toml:"grid"`
	Rule   []rule              `toml:"rule"`
	Target map[string]target   `toml:"target"`
	Color  color               `toml:"color"`

	Free int `toml:"-"`
}

type rule struct {
	Action string            `toml:"action"`
	Rate   float64           `toml:"rate"`
	Match  map[string]string `toml:"match"`
	Step   []step            `toml:"step"`
}

type step struct {
	Wait settings.Duration `toml:"wait"`
}

type target struct {
	URL  string          `toml:"url"`
	Tags []string        `toml:"tags"`
	Key  settings.Secret `toml:"key"`
}

// color is a daemon's own text type.
type color string

func (c *color) UnmarshalText(text []byte) error {
	if s := string(text); s != "red" && s != "green" {
		return errors.New("want red or green")
	}
	*c = color(text)
	return nil
}

func (c color) MarshalText() ([]byte, error) { return []byte(c), nil }

// defaults returns the compiled defaults.
func defaults() *app {
	a := &app{Name: "default", Units: []string{"a", "b"}, Color: "red"}
	a.Output.Timeout = settings.Duration(10e9)
	a.Output.Max = 2 << 20
	a.Output.Chunk = 1420
	a.Output.Labels = map[string]string{"env": "dev", "team": "core"}
	return a
}

// files is a file system with absolute and relative paths; the value "EACCES"
// makes a file or directory unreadable.
type files map[string]string

func (f files) open(name string) (fs.File, error) {
	m := fstest.MapFS{}
	for path, text := range f {
		if text == "EACCES" {
			if path == name {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
			}
			continue
		}
		m[strings.TrimPrefix(path, "/")] = &fstest.MapFile{Data: []byte(text)}
	}
	return m.Open(strings.TrimPrefix(name, "/"))
}

// load loads with the app's name "logship".
func load(t *testing.T, f files, env []string, file string, set ...string) (*app, *settings.Effective, error) {
	t.Helper()
	a := defaults()
	e, err := settings.Load(a, settings.Options{App: "logship", Env: env, File: file, Set: set, Open: f.open})
	return a, e, err
}

// everything sets each key of app.
const everything = `
name = "n"
debug = true
units = [] # replaces the default
ports = [1, 0x10]
rates = [1, 0.5, 1e300]
pauses = ["1d", "2h"]
grid = [[1, 2], []]
color = "green"
[output]
url = "gelf+tls://g:12201"
urls = ["a", "b\nc\u0085\"\\"]
timeout = "1h30m"
max_frame = 65536
udp_chunk = -5
small = -128
port = 65535
rate = 3
tls = { ca = "/x" }
http.token = "env:TOKEN"
[output.labels]
"a b" = "c"
[level.map]
audit = 5
[[rule]]
action = "drop"
match = { unit = "nginx*", "field.path" = "/health*" }
[[rule.step]]
wait = "1s"
[[rule.step]]
[[rule]]
rate = 0.25
[target.api]
url = "http://127.0.0.1"
tags = ["x"]
key = "cred:api"
`

// compare returns how two configurations differ, "" if they do not; nil and
// empty arrays and maps are the same to TOML.
func compare(a, b *app) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmpopts.EquateNaNs(),
		cmp.Comparer(func(a, b settings.Secret) bool { return a.String() == b.String() }))
}
