package probe

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sidecar/internal/health"
)

func fullEnv() Env {
	return Env{Heartbeats: NewHeartbeats(nil), Unit: func(context.Context, string) (Unit, error) { return Unit{ActiveState: "active"}, nil }}
}

// TestKinds: every example of the table is parsed, and every kind has the common options.
func TestKinds(t *testing.T) {
	if n := len(examples()); n != len(kinds()) || n < 17 {
		t.Fatalf("%d kinds", n)
	}
	for _, example := range examples() {
		c := mustParse(t, example, fullEnv())
		if c.Run == nil || c.Every <= 0 || c.Timeout <= 0 || c.Timeout > c.Every || !strings.HasPrefix(example, c.Kind+":") {
			t.Errorf("%s: %+v", example, c)
		}
		sep := "#"
		if strings.Contains(example, "#") {
			sep = "&"
		}
		c = mustParse(t, example+sep+"every=1d&timeout=7s", fullEnv())
		if c.Every != 24*time.Hour || c.Timeout != 7*time.Second {
			t.Errorf("%s: every %s, timeout %s", example, c.Every, c.Timeout)
		}
	}
}

func TestParseErrors(t *testing.T) {
	bad := func(text, words string, is error) {
		t.Helper()
		_, err := Parse(text, nil, fullEnv())
		if err == nil || !strings.Contains(err.Error(), words) || is != nil && !errors.Is(err, is) {
			t.Errorf("%s: %v, want %q", text, err, words)
		}
	}
	bad("", "want scheme:target", nil)
	bad("/health", "want scheme:target", nil)
	bad("exec:/bin/true", "unknown kind", ErrKind)
	bad("http:/health", "want http://", nil)
	bad("http://", "host", nil)
	bad("http://[::1/", "not a URL", nil)
	bad("http://127.0.0.1/#formt=auto", `"formt": there are`, ErrOption)
	bad("http://127.0.0.1/#format=xml", "want one of auto", ErrOption)
	bad("http://127.0.0.1/#format", "want name=value", ErrOption)
	bad("http://127.0.0.1/#status=2x", "want codes", ErrOption)
	bad("http://127.0.0.1/#every=1s&every=2s", "given twice", ErrOption)
	bad("http://127.0.0.1/#every=1s&timeout=2s", "timeout <= every", ErrOption)
	bad("http://127.0.0.1/#every=1ms", "every from 100ms", ErrOption)
	bad("http://127.0.0.1/#every=soon", "want", ErrOption)
	bad("http://127.0.0.1/#json=$..a", "key is missing", ErrOption)
	bad("http://127.0.0.1/#method=HEAD&format=ietf", "no body to look at", ErrOption)
	bad("http://127.0.0.1/#method=HEAD&contains=x", "no body to look at", ErrOption)
	bad("http://127.0.0.1/#header.Host=x", "not the operator's", nil)
	bad("http://127.0.0.1/#header.X%20Y=x", "cannot be sent", nil)
	bad("http://127.0.0.1/#header.X=a%0d%0ab", "cannot be sent", nil)
	bad("http://user@127.0.0.1/", "header.Authorization", nil)
	bad("https://127.0.0.1/#ca=/nonexistent", "read ca", nil)
	bad("https://127.0.0.1/#verify=perhaps", "want yes or no", ErrOption)
	bad("tcp://127.0.0.1", "port is missing", nil)
	bad("tcp:25", "want tcp://host:port", nil)
	bad("unix:app.sock", "want unix:/path", nil)
	bad("unit:nginx", "want unit:name.service", nil)
	bad("newest:backups/*", "want newest:/path", nil)
	bad("newest:/backups/[#max_age=1h", "pattern", nil)
	bad("newest:/backups/*", "max_age", ErrOption)
	bad("touched:/run/x", "max_age", ErrOption)
	bad("heartbeat:a/b#max_age=1h", "want heartbeat:name", nil)
	bad("heartbeat:a", "max_age", ErrOption)
	bad("disk:/#warn=99&fail=90", "above the limit", ErrOption)
	bad("disk:/#warn=101", "percentage", ErrOption)
	bad("disk://host/", "want disk:/path", nil)
	bad("cert:/a#warn=1d&fail=2d", "below the limit", ErrOption)
	bad("redis://127.0.0.1#role=chief", "want one of", ErrOption)
	bad("redis://127.0.0.1#min_replicas=-1", "want a number", ErrOption)
	bad("mysql://127.0.0.1#user=", "want a name", ErrOption)
	bad("postgresql://127.0.0.1#user=", "cannot be empty", nil)
	bad("dns://127.0.0.53", "want dns://server/name", nil)
	bad("dns://127.0.0.53/example.com#socket=/a", "there are", ErrOption)
	bad("dns:///example.com", "host is missing", nil)
	bad("http://127.0.0.1/#pass=a", "there are", ErrOption)
	bad("tls:///", "host is missing", nil)
	bad("dns:example.com#type=MX", "addresses only", ErrOption)
	bad("dns:example.com#expect=x", "want addresses", ErrOption)
	bad("healthd:9481", "want healthd://host:port", nil)
	bad("healthd://127.0.0.1/health", "want healthd://host:port", nil)
	bad("healthd+tls://127.0.0.1?x", "want healthd+tls://host:port", nil)
	bad("healthd://127.0.0.1#service=ALL-OK", "stands for health", ErrOption)
	bad("healthd://127.0.0.1#ca=/x", "there are", ErrOption)
	bad("healthd://", "host is missing", nil)
	bad("logship:9478", "want logship://", nil)
	bad("logship://127.0.0.1#warn=2m&fail=1m", "below the limit", ErrOption)
	for _, needy := range []string{"unit:a.service", "heartbeat:a#max_age=1h"} {
		if _, err := Parse(needy, nil, Env{}); err == nil {
			t.Errorf("%s is parsed without what it needs", needy)
		}
	}
}

// TestSecretsAreNotShown: neither a password in the wrong place nor a reference to one
// brings it into an error or a key.
func TestSecretsAreNotShown(t *testing.T) {
	for _, text := range []string{"redis://:hunter2@127.0.0.1", "redis://127.0.0.1#password=hunter2", "redis://a:hunter2@127.0.0.1/%zz",
		"redis://a@b:hunter2@127.0.0.1", "odd://a:hunter2@[::1", "redis://127.0.0.1#hunter2", "http://hunter2@127.0.0.1/"} {
		_, err := Parse(text, nil, Env{})
		if err == nil {
			t.Fatalf("%s is parsed", text)
		}
		if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), text[:5]) {
			t.Errorf("%v", err)
		}
	}
}

func TestKeysTellChecksApart(t *testing.T) {
	key := func(text string, extra map[string]string) string {
		t.Helper()
		c, err := Parse(text, extra, Env{})
		if err != nil {
			t.Fatal(err)
		}
		return c.Key
	}
	base := key("http://127.0.0.1:3000/health#format=ietf&status=200", nil)
	if same := key("http://127.0.0.1:3000/health#status=200", map[string]string{"format": "ietf"}); same != base {
		t.Errorf("%q and %q", base, same)
	}
	for _, other := range []string{"http://127.0.0.1:3001/health#format=ietf&status=200", "http://127.0.0.1:3000/health#format=ietf",
		"http://127.0.0.1:3000/healt%68x#format=ietf&status=200", "https://127.0.0.1:3000/health#format=ietf&status=200"} {
		if key(other, nil) == base {
			t.Errorf("%s has the key of another", other)
		}
	}
	if key("http://127.0.0.1/a%2Fb", nil) == key("http://127.0.0.1/a/b", nil) {
		t.Error("an escaped slash is a slash")
	}
	if _, err := Parse("http://127.0.0.1/#status=200", map[string]string{"status": "201"}, Env{}); !errors.Is(err, ErrOption) {
		t.Errorf("an option twice: %v", err)
	}
	if c := mustParse(t, "postgres://127.0.0.1", Env{}); c.Kind != "postgresql" {
		t.Errorf("kind %s", c.Kind)
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		unit  Unit
		idle  bool
		state health.State
		words string
	}{
		{Unit{ActiveState: "active", SubState: "running"}, false, health.Pass, "active (running)"},
		{Unit{ActiveState: "activating", SubState: "start"}, false, health.Starting, ""},
		{Unit{ActiveState: "activating", SubState: "auto-restart", Result: "exit-code"}, false, health.Fail, "last result: exit-code"},
		{Unit{ActiveState: "activating", SubState: "auto-restart-queued"}, false, health.Fail, ""},
		{Unit{ActiveState: "deactivating", SubState: "stop-sigterm"}, false, health.Warn, ""},
		{Unit{ActiveState: "reloading"}, false, health.Warn, ""},
		{Unit{ActiveState: "inactive", SubState: "dead", Result: "success"}, false, health.Fail, ""},
		{Unit{ActiveState: "inactive", SubState: "dead", Result: "success"}, true, health.Pass, ""},
		{Unit{ActiveState: "inactive", SubState: "dead", Result: "oom-kill"}, true, health.Fail, "oom-kill"},
		{Unit{ActiveState: "activating", SubState: "start"}, true, health.Pass, ""},
		{Unit{ActiveState: "failed", SubState: "failed", Result: "signal"}, true, health.Fail, "signal"},
		{Unit{LoadState: "not-found", ActiveState: "inactive"}, true, health.Fail, "not-found"},
		{Unit{LoadState: "masked", ActiveState: "active"}, false, health.Fail, "masked"},
		{Unit{}, true, health.Fail, "does not know"},
		{Unit{ActiveState: "new-in-260"}, false, health.Unknown, "new-in-260"},
	} {
		want(t, c.unit.Health(c.idle), c.state, c.words)
	}
	r := Unit{ActiveState: "active", NRestarts: 3, MemoryBytes: 4096, CPUSeconds: -1}.Health(false)
	if value(t, r, "restarts_total") != 3 || value(t, r, "memory_bytes") != 4096 || len(r.Values) != 2 {
		t.Errorf("values %v", r.Values)
	}
	env := Env{Unit: func(_ context.Context, name string) (Unit, error) {
		if name != "a@1.service" {
			return Unit{}, errors.New("no bus")
		}
		return Unit{ActiveState: "active"}, nil
	}}
	want(t, probe(t, "unit:a@1.service", env), health.Pass)
	want(t, probe(t, "unit:b.service", env), health.Unknown, "no bus")
}

// FuzzParse: any line is a check or an error, and a check is the same again.
func FuzzParse(f *testing.F) {
	for _, example := range examples() {
		f.Add(example)
	}
	f.Add("redis://:secret@127.0.0.1#password=env:A&role=master&%zz=1")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "ca=") {
			return // the only option whose file is read
		}
		c, err := Parse(text, nil, fullEnv())
		if (err == nil) != (c.Run != nil && c.Timeout > 0) {
			t.Fatalf("%+v, %v", c, err)
		}
		if again, err2 := Parse(text, nil, fullEnv()); again.Key != c.Key || (err == nil) != (err2 == nil) {
			t.Errorf("key %q, then %q", c.Key, again.Key)
		}
	})
}

// examples returns an example of each kind of check, in the order of their schemes.
func examples() (all []string) {
	table := kinds()
	for _, name := range slices.Sorted(maps.Keys(table)) {
		all = append(all, table[name].usage)
	}
	return all
}
