package main

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sidecar/internal/journal"
	"sidecar/internal/settings"
)

// load loads the configuration from a file and arguments, and nothing else.
func load(t *testing.T, file string, set ...string) (*Config, *settings.Effective, error) {
	t.Helper()
	c := defaultConfig()
	effective, err := settings.Load(&c, settings.Options{App: "logship", Env: []string{"LOGSHIP_CONFIG_DIR=/nonexistent"}, File: file, Set: set})
	if err != nil {
		return nil, nil, err
	}
	return &c, effective, c.check(effective)
}

// TestDefaultFile: the file that documents the defaults sets every key, to the
// very default.
func TestDefaultFile(t *testing.T) {
	const file = "../../config/default.toml"
	got, effective, err := load(t, file)
	if err != nil {
		t.Fatal(err)
	}
	want, compiled, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if dump(t, compiled) != strings.ReplaceAll(dump(t, effective), "# read "+file+"\n", "") {
		t.Error(cmp.Diff(dump(t, compiled), dump(t, effective)))
	}
	if len(got.Fields) != len(want.Fields) {
		t.Errorf("it sets fields: %v", got.Fields)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(t, compiled) {
		value, origin, err := effective.Explain(key)
		if err != nil {
			t.Fatal(err)
		}
		if origin.Layer != settings.File {
			t.Errorf("%s is not set in %s", key, file)
			continue
		}
		// As config prints it, so that an operator finds it again.
		line := strings.Split(string(text), "\n")[origin.Line-1]
		if want := key[strings.LastIndexByte(key, '.')+1:] + " = " + value; !strings.HasPrefix(line, want) {
			t.Errorf("line %d: %s, want %s", origin.Line, line, want)
		}
	}
}

var comment = regexp.MustCompile(`(?m)  # .*$`)

// dump returns what config prints, without the origins.
func dump(t *testing.T, e *settings.Effective) string {
	t.Helper()
	var b strings.Builder
	if err := e.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return comment.ReplaceAllString(b.String(), "")
}

// keys returns every key, dotted.
func keys(t *testing.T, e *settings.Effective) []string {
	t.Helper()
	var all []string
	section := ""
	for line := range strings.Lines(dump(t, e)) {
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]\n")
		} else if key, _, ok := strings.Cut(line, " = "); ok {
			all = append(all, strings.TrimPrefix(section+"."+key, "."))
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d keys: %v", len(all), all)
	}
	return all
}

// TestDocumentedConfiguration: every TOML example of the documents loads, and
// docs/configuration.md has every key with its default.
func TestDocumentedConfiguration(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	block := regexp.MustCompile("(?ms)^ *```toml\n(.*?)^ *```$")
	for _, file := range append(files, "../../README.md") {
		// The examples there are of healthd, which tests them.
		if slices.Contains([]string{"health.md", "hub.md", "prometheus.md", "status.md"}, filepath.Base(file)) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatchIndex(string(text), -1) {
			examples++
			path := filepath.Join(t.TempDir(), "logship.toml")
			if err := os.WriteFile(path, text[m[2]:m[3]], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := load(t, path); err != nil {
				t.Errorf("%s, line %d: %v", filepath.Base(file), 1+strings.Count(string(text[:m[2]]), "\n"), err)
			}
		}
	}
	if examples < 5 {
		t.Errorf("only %d examples were found", examples)
	}

	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, effective, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| `(.*?)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = m[2]
	}
	actual := map[string]string{}
	for _, key := range keys(t, effective) {
		actual[key], _, _ = effective.Explain(key)
	}
	if diff := cmp.Diff(actual, documented); diff != "" {
		t.Errorf("keys and defaults, - as they are, + as documented:\n%s", diff)
	}
}

func TestTarget(t *testing.T) {
	ok := func(in, scheme, address, host string) {
		t.Helper()
		got, err := parseTarget(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if got.Scheme != scheme || got.Host != address || got.Hostname() != host || got.name() != address {
			t.Errorf("%s: %s, %s, %s; want %s, %s, %s", in, got.Scheme, got.Host, got.Hostname(), scheme, address, host)
		}
	}
	bad := func(in, reason string) {
		t.Helper()
		if got, err := parseTarget(in); err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "want ") {
			t.Errorf("%s: %v, %v; want an error with %q and what is right", in, got, err, reason)
		}
	}
	ok("gelf+tcp://graylog", "gelf+tcp", "graylog:12201", "graylog")
	ok("gelf+tcp://graylog/", "gelf+tcp", "graylog:12201", "graylog")
	ok("gelf+tcp://graylog:", "gelf+tcp", "graylog:12201", "graylog")
	ok("GELF+TLS://Graylog.example.com:1", "gelf+tls", "Graylog.example.com:1", "Graylog.example.com")
	ok("gelf+tls://graylog:65535", "gelf+tls", "graylog:65535", "graylog")
	ok("gelf+tcp://192.0.2.1:12201", "gelf+tcp", "192.0.2.1:12201", "192.0.2.1")
	ok("gelf+tcp://[2001:db8::1]", "gelf+tcp", "[2001:db8::1]:12201", "2001:db8::1")
	ok("gelf+tls://[2001:db8::1]:12202", "gelf+tls", "[2001:db8::1]:12202", "2001:db8::1")
	ok("gelf+tcp://[fe80::1%25eth0]:12201", "gelf+tcp", "[fe80::1%eth0]:12201", "fe80::1%eth0")
	ok("gelf+http://graylog", "gelf+http", "graylog:12201", "graylog")
	ok("gelf+https://graylog:443/logs/gelf", "gelf+https", "graylog:443", "graylog")
	ok("gelf+udp://[2001:db8::1]/", "gelf+udp", "[2001:db8::1]:12201", "2001:db8::1")
	bad("graylog", "no kind of output")
	bad("//graylog:12201", "no kind of output")
	bad("graylog:12201", `unknown kind of output "graylog"`)
	bad("gelf+ftp://graylog:12201", `unknown kind of output "gelf+ftp"`)
	bad("gelf+udp://graylog/gelf", "not a host")
	bad("gelf+http:///gelf", "not a host")
	bad("gelf+http://graylog/gelf?x=1", "not a host")
	bad("gelf+http://graylog/gelf#x", "not a host")
	bad("gelf+https://user:secret@graylog/gelf", "not a host")
	bad("gelf+https://graylog:0/gelf", "port 0 is not")
	bad("tcp://graylog:12201", `unknown kind of output "tcp"`)
	bad("gelf+tcp:graylog:12201", "not a host")
	bad("gelf+tcp://", "not a host")
	bad("gelf+tcp://:12201", "not a host")
	bad("gelf+tcp://graylog/gelf", "not a host")
	bad("gelf+tcp://graylog?x=1", "not a host")
	bad("gelf+tcp://graylog?", "not a host")
	bad("gelf+tcp://graylog#x", "not a host")
	bad("gelf+tcp://user@graylog", "not a host")
	bad("gelf+tcp://graylog:0", "port 0 is not")
	bad("gelf+tcp://graylog:65536", "port 65536 is not")
	bad("gelf+tcp://graylog:gelf", "not a URL")
	bad("gelf+tcp://2001:db8::1:12201x", "not a URL")
	bad("gelf+tcp://gray log", "not a URL")
}

// The URLs of brokers and of lines.
func TestTargetsOfBrokersAndLines(t *testing.T) {
	ok := func(in, host string) {
		t.Helper()
		if got, err := parseTarget(in); err != nil || got.Host != host {
			t.Errorf("%s: %+v, %v; want host %q", in, got.URL, err, host)
		}
	}
	bad := func(in, reason string) {
		t.Helper()
		if got, err := parseTarget(in); err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "; want ") {
			t.Errorf("%s: %v, %v; want an error with %q and what is right", in, got.URL, err, reason)
		}
	}
	ok("kafka://broker/gelf.2_a-b?compression=zstd&mechanism=PLAIN", "broker")
	bad("kafka://broker", "not a topic")
	bad("kafka://broker/", "not a topic")
	bad("kafka://broker/a/b", "not a topic")
	bad("kafka:///gelf", "not a broker")
	bad("kafka://one,,two/gelf", "not a broker")
	bad("kafka://user:word@broker/gelf", "output.user")
	bad("kafka://broker/gelf?acks=0", `unknown name "acks"`)
	bad("kafka://broker/gelf?compression=brotli", `unknown compression "brotli"`)
	bad("kafka://broker/gelf?mechanism=PLAIN&mechanism=PLAIN", "mechanism is there twice")
	bad("kafka://broker/gelf?mechanism=plain", `unknown SASL mechanism "plain"`)
	bad("kafka://broker/gelf#x", "not a query")
	bad("kafka://broker:0/gelf", "not a broker")
	bad("kafka://one:9092,two:0/gelf", "not a broker")

	for in, want := range map[string][]string{
		"kafka://one/t":                   {"one:9092"},
		"kafka+tls://one/t":               {"one:9093"},
		"kafka://one:1,two,192.0.2.1:3/t": {"one:1", "two:9092", "192.0.2.1:3"},
		"kafka+tls://[2001:db8::1]/t":     {"[2001:db8::1]:9093"},
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := brokers(u); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
	}

	ok("amqp://rabbit?queue=log-messages", "rabbit:5672")
	ok("amqps://rabbit/logs?queue=log-messages", "rabbit:5671")
	ok("amqp://rabbit:1/logs?exchange=logs&routing_key=gelf", "rabbit:1")
	ok("amqp://rabbit/%2Flogs?routing_key=gelf", "rabbit:5672")
	bad("amqp:///logs?queue=x", "no host")
	bad("amqp://rabbit/logs", "neither a queue")
	bad("amqp://rabbit/logs?queue=x&exchange=y", "one way only")
	bad("amqp://rabbit/logs?queue=x;y", "not a query")
	bad("amqp://guest@rabbit/logs?queue=x", "output.user")
	bad("amqp://rabbit/logs?queue=x&heartbeat=1", `unknown name "heartbeat"`)

	ok("file:///var/log/a%20b.jsonl", "")
	bad("file://var/log/x", "not an absolute path")
	bad("file:x", "not an absolute path")
	bad("file:///var/log/", "not an absolute path")
	bad("file:///x?y=1", "not an absolute path")
	ok("stdout:", "")
	ok("stdout://", "")
	bad("stdout:x", "something behind")
	bad("stdout:///x", "something behind")
}

func TestStart(t *testing.T) {
	const cursor = "s=2fe57dfae506401ebff12a05f8d89b89;i=5;b=0123456789abcdef0123456789abcdef;m=138c;t=65bfeda25e004;x=9b11f5860284ee0d"
	after, err := journal.ParseCursor(cursor)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 17, 8, 15, 30, 0, time.UTC)
	for in, want := range map[string]journal.Start{
		"tail":   {},
		"head":   {Head: true},
		"-2h":    {Since: now.Add(-2 * time.Hour)},
		cursor:   {After: after},
		"-1d12h": {Since: now.Add(-36 * time.Hour)},

		"2026-11-17":                {Since: time.Date(2026, 11, 17, 0, 0, 0, 0, time.Local)},
		"2026-11-17 08:15":          {Since: time.Date(2026, 11, 17, 8, 15, 0, 0, time.Local)},
		"2026-11-17 08:15:30":       {Since: time.Date(2026, 11, 17, 8, 15, 30, 0, time.Local)},
		"2026-11-17T10:15:30+02:00": {Since: now},
		"2026-11-17T08:15:30.5Z":    {Since: now.Add(time.Second / 2)},
	} {
		c := Config{}
		c.Input.Journald.Start = in
		if got, err := c.start(now); err != nil || got.Head != want.Head || got.After != want.After || !got.Since.Equal(want.Since) {
			t.Errorf("%s: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "now", "2h", "-", "-0s", "--2h", "-2", "Head", " tail", "2026-11-17 8", "2026-02-30", "1969-12-31", "2026-11-17T08:15", "s=1;i=5"} {
		c := Config{}
		c.Input.Journald.Start = in
		if got, err := c.start(now); err == nil {
			t.Errorf("%q: %+v, want an error", in, got)
		}
	}
}

func TestStaticFields(t *testing.T) {
	for _, name := range []string{"environment", "team-name", "a", "X_1", "9lives", "idx"} {
		if _, _, err := load(t, "", "fields."+name+"=x"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Each of them is skipped by Graylog, or replaces what the encoder writes.
	for _, name := range []string{"id", "host", "source", "message", "short_message", "full_message", "timestamp", "level",
		"facility", "file", "line", "version", "streams", "event_id", "seq", "replay", "_x", "-x", `"a.b"`, `"a b"`, `"ö"`, `""`} {
		if _, _, err := load(t, "", "fields."+name+"=x"); !errors.As(err, new(*settings.Error)) {
			t.Errorf("%s: %v, want a configuration error", name, err)
		}
	}
}

// TestRanges tries the limits and the values beside them.
func TestRanges(t *testing.T) {
	for _, limit := range []struct {
		key  string
		good []string
		bad  []string
	}{
		{"parse.max_depth", []string{"2", "100"}, []string{"1", "101"}},
		{"parse.max_fields", []string{"1", "480"}, []string{"0", "481"}},
		{"parse.max_value", []string{"256", "32766"}, []string{"255", "32767"}},
		{"output.timeout", []string{"1ms"}, []string{"0s"}},
		{"output.max_frame", []string{"8KiB", "2097151"}, []string{"8191", "2MiB"}},
		{"output.tls.min", []string{"1.2", "1.3"}, []string{"1.1", ""}},
		{"buffer.memory", []string{"4MiB"}, []string{"4194303"}},
		{"state.fsync", []string{"1ms"}, []string{"0"}},
		{"metrics.max_services", []string{"1"}, []string{"0"}},
		{"metrics.listen", []string{"", ":9478", "[::1]:9478", "unix:/run/logship/metrics.sock"}, []string{"9478", "localhost", "localhost:65536", "localhost:-1", "unix:metrics.sock", "unix:"}},
		{"stop.timeout", []string{"1ms"}, []string{"0s"}},
		{"log.level", []string{"debug", "error"}, []string{"", "trace"}},
		{"log.format", []string{"auto", "journal", "text"}, []string{"", "json"}},
		{"parse.timezone", []string{"UTC", "Local", "Europe/Warsaw"}, []string{"CEST2", "../UTC"}},
		{"input.journald.namespaces", []string{"[]", `["*", "web", "w[a-c]?"]`}, []string{`["["]`, `[""]`, `["a.b"]`, `["a/b"]`}},
		{"input.journald.pins.quota", []string{"0", "10737418240"}, []string{"-1", `"much"`}},
		{"input.journald.exclude_units", []string{"[]", `["a*", "b?", "[c-d]"]`}, []string{`["["]`, `[""]`, `["a b"]`}},
		{"input.journald.units", []string{"[]", `["a", "b@*"]`}, []string{`["["]`, `["/"]`}},
		{"input.journald.user_units", []string{`["a.timer"]`}, []string{`["a["]`}},
		{"input.journald.priority", []string{"", "err", "7", "0..info"}, []string{"8", "error", "..", "err.."}},
		{"input.journald.matches", []string{`["A=b", "+", "_C="]`, `["A=b", "A=c"]`}, []string{`["a=b"]`, `["+"]`, `["A=b", "+"]`, `["A"]`}},
	} {
		for _, value := range limit.good {
			if _, _, err := load(t, "", limit.key+"="+value); err != nil {
				t.Errorf("%s = %s: %v", limit.key, value, err)
			}
		}
		for _, value := range limit.bad {
			var e *settings.Error
			if _, _, err := load(t, "", limit.key+"="+value); !errors.As(err, &e) || e.Key != limit.key {
				t.Errorf("%s = %s: %v, want an error about the key", limit.key, value, err)
			}
		}
	}
}

func TestStateDir(t *testing.T) {
	c := Config{}
	t.Setenv("STATE_DIRECTORY", "")
	if got := c.stateDir(); got != "/var/lib/logship" {
		t.Errorf("without anything: %s", got)
	}
	t.Setenv("STATE_DIRECTORY", "/var/lib/private/logship:/var/lib/other")
	if got := c.stateDir(); got != "/var/lib/private/logship" {
		t.Errorf("of systemd: %s", got)
	}
	c.State.Dir = "/srv/state"
	if got := c.stateDir(); got != "/srv/state" {
		t.Errorf("of the configuration: %s", got)
	}
}
