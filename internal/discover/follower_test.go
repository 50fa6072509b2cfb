package discover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidecar/internal/discover/discovertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waiting for what must happen.
const patience = 20 * time.Second

// watch is a running follower with what it tells.
type watch struct {
	*Follower
	t      *testing.T
	sets   chan *Set
	states chan string
}

func follow(t *testing.T, f *discovertest.Systemd, ignore ...string) *watch {
	w := &watch{t: t, sets: make(chan *Set, 100), states: make(chan string, 1000)}
	w.Follower = New(Options{Address: f.Address(), Ignore: ignore, Units: []string{"extra.mount"},
		OnSet:   func(s *Set) { w.sets <- s },
		OnState: func(unit string, s State) { w.states <- fmt.Sprintf("%s %s/%s", unit, s.Active, s.Sub) }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// next returns the next set as text.
func (w *watch) next() string {
	w.t.Helper()
	select {
	case s := <-w.sets:
		return describe(s)
	case <-time.After(patience):
		w.t.Fatal("no set came")
		return ""
	}
}

// await waits for a state to be told.
func (w *watch) await(want string) {
	w.t.Helper()
	var seen []string
	timeout := time.After(patience)
	for {
		select {
		case s := <-w.states:
			if s == want {
				return
			}
			seen = append(seen, s)
		case <-timeout:
			w.t.Fatalf("%s did not come, but %q", want, seen)
		}
	}
}

func describe(s *Set) string {
	var b strings.Builder
	for _, a := range s.Apps {
		fmt.Fprintf(&b, "%s:", a.Name)
		for _, w := range a.Workers {
			fmt.Fprintf(&b, " %s=%s%v", w.Name, w.Unit, w.Health)
		}
		if len(a.Problems) > 0 {
			fmt.Fprintf(&b, " %q", a.Problems)
		}
		b.WriteString("; ")
	}
	if len(s.Silent) > 0 {
		fmt.Fprintf(&b, "silent %v", s.Silent)
	}
	return strings.TrimSuffix(strings.TrimSpace(b.String()), ";")
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFollowsUnits(t *testing.T) {
	f := discovertest.New(t)
	dir := f.Dir()
	api := write(t, dir+"/api.service", "[Service]\nExecStart=/bin/true\n[X-Healthd]\nHealth=http://127.0.0.1:3000/health\n")
	f.Load("api.service", api, nil)
	f.Load("cron.service", write(t, dir+"/cron.service", "[Service]\n"), nil)
	f.Load("ssh.service", write(t, dir+"/ssh.service", "[Service]\n"), nil)
	for _, unit := range []string{"api.service", "cron.service", "ssh.service"} {
		f.Enable(unit, true)
	}

	w := follow(t, f, "ss?")
	want(t, w.next(), "api: =api.service[http://127.0.0.1:3000/health]; silent [cron.service]")
	w.await("api.service active/running")

	f.Change("api.service", map[string]any{"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "ExecMainStatus": int32(3)})
	w.await("api.service failed/failed")
	if s, err := w.State("api.service"); err != nil || s.Result != "exit-code" || s.ExitStatus != 3 || !s.Enabled {
		t.Errorf("state %+v, %v", s, err)
	}
	if u, err := w.Usage(t.Context(), "api.service"); err != nil || u != (Usage{MemoryBytes: 64 << 20, MemoryKnown: true, CPU: 1<<63 - 1}) {
		t.Errorf("usage %+v, %v", u, err)
	}

	// A unit of the configuration, without a section.
	f.Load("extra.mount", dir+"/extra.mount", map[string]any{"SubState": "mounted"})
	w.await("extra.mount active/mounted")

	// A new unit, as a deployment makes it.
	f.Load("shop.service", write(t, dir+"/shop.service", "[X-Healthd]\nHealth=tcp://127.0.0.1:1\n"), map[string]any{"UnitFileState": "disabled"})
	want(t, w.next(), "api: =api.service[http://127.0.0.1:3000/health]; shop: =shop.service[tcp://127.0.0.1:1]; silent [cron.service]")

	// Started by hand and stopped: nobody's loss.
	f.Change("shop.service", map[string]any{"ActiveState": "inactive"})
	want(t, w.next(), "api: =api.service[http://127.0.0.1:3000/health]; silent [cron.service]")

	// A drop-in changes the section: systemd reloads.
	f.Set("api.service", map[string]any{"DropInPaths": []string{write(t, dir+"/api.service.d/x.conf", "[X-Healthd]\nHealth=\nHealth=http://[::1]:9/\n")}})
	f.Signal(discovertest.ManagerPath, discovertest.Manager, "Reloading", true)
	f.Signal(discovertest.ManagerPath, discovertest.Manager, "Reloading", false)
	want(t, w.next(), "api: =api.service[http://[::1]:9/]; silent [cron.service]")

	f.Unload("api.service")
	f.Enable("api.service", false)
	f.Signal(discovertest.ManagerPath, discovertest.Manager, "UnitFilesChanged")
	want(t, w.next(), "silent [cron.service]")

	f.Enable("cron.service", false)
	f.Enable("mail@1.service", true)
	f.Signal(discovertest.ManagerPath, discovertest.Manager, "UnitFilesChanged")
	want(t, w.next(), "silent [mail@1.service]")
	if stray := f.Stray(); len(stray) > 0 {
		t.Errorf("units that are not loaded were asked for, which loads them: %v", stray)
	}
}

func TestWorkersOfATemplate(t *testing.T) {
	f := discovertest.New(t)
	dir := f.Dir()
	file := write(t, dir+"/pay@.service", "[X-Healthd]\nHealth=http://127.0.0.1:30%i/h\nWorkers=08..10\nQuorum=2\n")
	w := follow(t, f)
	// None of them is loaded: all are missing, and all are targets.
	const all = "pay: 08=pay@08.service[http://127.0.0.1:3008/h] 09=pay@09.service[http://127.0.0.1:3009/h] 10=pay@10.service[http://127.0.0.1:3010/h]"
	want(t, w.next(), all)
	w.await("pay@09.service /")
	f.Load("pay@09.service", file, map[string]any{"UnitFileState": "disabled"})
	w.await("pay@09.service active/running")
	f.Load("pay@3011.service", file, nil)
	want(t, w.next(), all+` 3011=pay@3011.service[http://127.0.0.1:303011/h] ["pay@3011.service is not one of the Workers of the section"]`)
	// One of the Workers that is stopped stays a target.
	f.Unload("pay@09.service")
	w.await("pay@09.service /")
}

func TestBusGoneAndBack(t *testing.T) {
	f := discovertest.New(t)
	file := write(t, f.Dir()+"/a.service", "[X-Healthd]\n")
	f.Load("a.service", file, nil)
	w := follow(t, f)
	want(t, w.next(), "a: =a.service[]")
	w.await("a.service active/running")

	f.Stop()
	for {
		if _, err := w.State("a.service"); errors.Is(err, ErrNoBus) {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("it does not notice")
		}
	}
	if _, err := w.Usage(t.Context(), "a.service"); !errors.Is(err, ErrNoBus) {
		t.Errorf("usage without a bus: %v", err)
	}
	f.Set("a.service", map[string]any{"ActiveState": "failed"})
	f.Start()
	w.await("a.service failed/running")
	if len(w.sets) > 0 {
		t.Errorf("the set did not change, but was told again: %s", w.next())
	}
	if n := f.Calls("Subscribe"); n != 2 {
		t.Errorf("subscribed %d times, want once for each connection", n)
	}
}

// TestTrust: for a while the last known state is believed.
func TestTrust(t *testing.T) {
	f := New(Options{Trust: time.Hour})
	if _, err := f.State("a.service"); !errors.Is(err, ErrNoBus) {
		t.Errorf("before the first connection: %v", err)
	}
	f.states["a.service"] = State{Active: "active"}
	f.lose()
	if s, err := f.State("a.service"); err != nil || s.Active != "active" || f.Connected() {
		t.Errorf("just lost: %+v, %v", s, err)
	}
	f.lostAt = f.lostAt.Add(-time.Hour)
	if _, err := f.State("a.service"); !errors.Is(err, ErrNoBus) {
		t.Errorf("lost an hour ago: %v", err)
	}
}

// TestSystemdIsReplaced: after daemon-reexec it may have forgotten us.
func TestSystemdIsReplaced(t *testing.T) {
	f := discovertest.New(t)
	f.Load("a.service", write(t, f.Dir()+"/a.service", "[X-Healthd]\n"), nil)
	w := follow(t, f)
	w.await("a.service active/running")
	f.Set("a.service", map[string]any{"SubState": "exited"})
	f.Signal("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", systemd, ":1.0", "")
	f.Signal("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", systemd, "", ":1.9")
	w.await("a.service active/exited")
	if n := f.Calls("Subscribe"); n != 2 {
		t.Errorf("subscribed %d times, want 2", n)
	}
}

func TestFind(t *testing.T) {
	f := discovertest.New(t)
	f.Load("a.service", write(t, f.Dir()+"/a.service", "[X-Healthd]\nNonsense=1\n"), nil)
	set, states, err := Find(t.Context(), Options{Address: f.Address()})
	if err != nil || len(set.Apps) != 1 || states["a.service"].Active != "active" {
		t.Fatalf("%v %v %v", set, states, err)
	}
	if p := set.Apps[0].Problems; len(p) != 1 || !strings.Contains(p[0], `line 2: "Nonsense": no such key`) {
		t.Errorf("problems %q", p)
	}
	if _, _, err := Find(t.Context(), Options{Address: "unix:path=" + t.TempDir() + "/none"}); err == nil || !strings.HasPrefix(err.Error(), "connect to D-Bus: ") {
		t.Errorf("without a bus: %v", err)
	}
}

// TestDeafBus: something accepts and says nothing.
func TestDeafBus(t *testing.T) {
	f := discovertest.New(t)
	f.SetDeaf()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := Find(ctx, Options{Address: f.Address()}); err == nil {
		t.Error("found something")
	}
}

func TestAppsOfUnits(t *testing.T) {
	section := func(text string) Section {
		s, _, problems := ParseSection("[X-Healthd]\n" + text)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return s
	}
	ok := func(want string, units ...unit) {
		t.Helper()
		for range 3 {
			units = append(units[1:], units[0]) // the order does not matter
			got := describe(&Set{Apps: assemble(slices.Clone(units))})
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	}
	url := section("Health=tcp://%i")
	ok("", unit{name: "a.service"}, unit{name: "b@.service", section: url})
	ok("a: =a.service[]; b: =b.service[]", unit{name: "a.service", enabled: true}, unit{name: "b.service", running: true})
	ok("a: 9=a@9.service[tcp://9] 10=a@10.service[tcp://10]", unit{name: "a@10.service", section: url, enabled: true}, unit{name: "a@9.service", section: url, running: true},
		unit{name: "a@8.service", section: url}, unit{name: "a@.service", section: url})
	// A plain unit with several workers: one unit, several checks.
	ok("a: 1=a.service[tcp://1] 2=a.service[tcp://2]", unit{name: "a.service", section: section("Health=tcp://%i\nWorkers=2"), enabled: true})
	ok("a.timer: =a.timer[]; a: =a.service[]"[len("a.timer: =a.timer[]; "):]+"; a.timer: =a.timer[]", unit{name: "a.timer", enabled: true}, unit{name: "a.service", enabled: true})
	ok(`a: =a.service[] ["Health=%s: \"%s\" is not known here: use %i %I %n %N %p, and %% for a percent sign"]`, unit{name: "a.service", section: section("Health=%s"), enabled: true})
}
