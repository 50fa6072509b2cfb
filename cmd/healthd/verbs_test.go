package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sidecar/internal/cli"
	"sidecar/internal/health"
)

// call runs a command line and returns what it printed and its exit code.
func call(args ...string) (stdout, stderr string, code int) {
	var out, err strings.Builder
	code = run(args, &out, &err)
	return out.String(), err.String(), code
}

// commands returns the root and every verb, also those of verbs.
func commands() []*cobra.Command {
	all := []*cobra.Command{newRoot()}
	for i := 0; i < len(all); i++ {
		all = append(all, all[i].Commands()...)
	}
	return all
}

func TestHelpSaysWhatThereIs(t *testing.T) {
	for _, cmd := range commands() {
		if cmd.Short == "" || (cmd.Long == "" || cmd.Example == "") && cmd.Name() != "version" && cmd.Name() != "man" {
			t.Errorf("%s: no description or no example", cmd.CommandPath())
		}
		for line := range strings.SplitSeq(cmd.Long, "\n") {
			if len(line) > 100 {
				t.Errorf("%s: a line of %d bytes does not fit a terminal: %s", cmd.CommandPath(), len(line), line)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if len(strings.Fields(f.Usage)) < 2 {
				t.Errorf("%s --%s: %q explains nothing", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
		if _, stderr, code := call(append(strings.Fields(cmd.CommandPath())[1:], "--help")...); code != cli.ExitOK {
			t.Errorf("%s: help ends with %d: %s", cmd.CommandPath(), code, stderr)
		}
		for line := range strings.Lines(cmd.Example) {
			line = regexp.MustCompile(`^[A-Z_]+=\S+ `).ReplaceAllString(strings.TrimSpace(line), "")
			words := strings.Fields(line)
			found, rest, err := newRoot().Find(words[1:])
			if err != nil || found.ParseFlags(rest) != nil || words[0] != "healthd" {
				t.Errorf("%s: the example %q is none: %v", cmd.CommandPath(), line, err)
			}
		}
	}
}

func TestUsageErrors(t *testing.T) {
	bad := func(want string, code int, args ...string) {
		t.Helper()
		if _, stderr, got := call(args...); got != code || !strings.Contains(stderr, want) || !strings.HasPrefix(stderr, "healthd: ") {
			t.Errorf("%v: exit %d, %s; want %d, %s", args, got, stderr, code, want)
		}
	}
	t.Setenv("HEALTHD_CONFIG_DIR", t.TempDir())
	bad(`unknown command "explian" for "healthd"; did you mean explain?`, cli.ExitUsage, "explian")
	bad(`unexpected argument "x"`, cli.ExitUsage, "targets", "x")
	bad("unknown flag: --x", cli.ExitUsage, "run", "--x")
	bad("--for: want more than 0s", cli.ExitUsage, "maintenance", "on", "--for", "0")
	bad("invalid argument", cli.ExitUsage, "maintenance", "on", "--for", "soon")
	bad("unknown key", cli.ExitUsage, "config", "--explain", "public.lisen")
	bad("want 1 to 60", cli.ExitConfig, "check", "--set", "judge.fall=0")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad("open private.socket: use "+file+": not a directory", cli.ExitFailed, "check", "--set", "private.socket="+file+"/x.sock", "--set", "discover.enabled=false", "--set", "state.dir="+t.TempDir())
	bad("no such file", cli.ExitConfig, "run", "--config", "/nonexistent.toml")
	bad("no healthd runs here", cli.ExitUnreachable, "explain", "--set", "private.socket=/nonexistent/x.sock")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
	bad("find units: connect to D-Bus", cli.ExitUnreachable, "targets")
	bad("find units: connect to D-Bus", cli.ExitUnreachable, "check", "--set", "state.dir="+t.TempDir())
}

func TestVersionAndConfig(t *testing.T) {
	t.Setenv("HEALTHD_CONFIG_DIR", t.TempDir())
	out, _, code := call("version", "--json")
	var v struct{ Version, Go string }
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != cli.ExitOK || v.Version != cli.Version() || v.Go == "" {
		t.Errorf("version: %d %s %v", code, out, err)
	}
	t.Setenv("HEALTHD_JUDGE__FALL", "7")
	if out, _, _ := call("config", "--explain", "judge.fall"); out != "judge.fall = 7\nset by HEALTHD_JUDGE__FALL\n" {
		t.Errorf("explain: %s", out)
	}
	if out, _, _ := call("config"); !strings.Contains(out, "fall = 7  # HEALTHD_JUDGE__FALL") {
		t.Errorf("config: %s", out)
	}
}

func TestTargetsAndCheck(t *testing.T) {
	bus, app := systemBus(t), newApp(t)
	t.Setenv("HEALTHD_PRIVATE__SOCKET", t.TempDir()+"/private.sock")
	t.Setenv("HEALTHD_CONFIG_DIR", t.TempDir())
	file := unitFile(t, "pay.service", "[X-Healthd]\nHealth="+app.URL+"/%n\nMetrics=/metrics\nPublic=Payments\nCritical=yes\n")
	bus.Load("pay.service", file, nil)
	state := "state.dir=" + t.TempDir()
	out, stderr, code := call("targets")
	if code != cli.ExitOK || !regexp.MustCompile(`(?m)^pay +- +pay\.service +critical +Payments +- +1 +unit:pay\.service `+regexp.QuoteMeta(app.URL)+`/pay\.service$`).MatchString(out) {
		t.Errorf("targets: %d %s%s", code, out, stderr)
	}
	if out, stderr, code := call("check", "--probe", "--set", state); code != cli.ExitOK || !strings.Contains(out, "ok    check pay/http: pass") || !strings.Contains(out, "ok    units: 1 with an [X-Healthd] section") {
		t.Errorf("check: %d %s%s", code, out, stderr)
	}
	app.down.Store(true)
	if out, stderr, code := call("check", "--probe", "--set", state); code != cli.ExitFailed || !strings.Contains(out, "FAIL  check pay/http") || !strings.Contains(stderr, "check pay/http: fail: ") {
		t.Errorf("check of what is down: %d %s%s", code, out, stderr)
	}
	bus.Load("bad.service", unitFile(t, "bad.service", "[X-Healthd]\nHealth=gopher://x\nPubilc=x\n"), nil)
	out, stderr, code = call("targets")
	if code != cli.ExitFailed || stderr != "healthd: targets: 2 problems\n" || !strings.Contains(out, `problem: bad (bad.service): line 3: "Pubilc": no such key`) || !strings.Contains(out, "problem: bad (bad.service): parse check") {
		t.Errorf("targets with mistakes: %d %s%s", code, out, stderr)
	}
	out, _, _ = call("targets", "--json")
	var set foundSet
	if err := json.Unmarshal([]byte(out), &set); err != nil || len(set.Apps) != 2 || set.Apps[1].Public != "Payments" {
		t.Errorf("targets --json: %s %v", out, err)
	}
	if _, stderr, code := call("check", "--set", "state.dir="+file); code == cli.ExitOK || !strings.Contains(stderr, "keep state: use "+file+": not a directory") {
		t.Errorf("check of a state directory that is a file: %d %s", code, stderr)
	}
}

func TestExplainAndMaintenance(t *testing.T) {
	app := newApp(t)
	app.down.Store(true)
	i := start(t, t.TempDir(), "discover.enabled = false\n"+quick+"grace = '100ms'\n[group.shop]\n[target.web]\ngroup = 'shop'\nweight = 'critical'\nchecks = ['"+app.URL+"/', 'disk:/']\ninterval = '200ms'\n")
	i.awaitNode("healthd", health.Pass, "")
	i.awaitNode("shop", health.Fail, "web")
	flags := []string{"--set", "private.socket=" + i.dir + "/private.sock"}
	t.Setenv("HEALTHD_CONFIG_DIR", t.TempDir())
	i.awaitNode("web/http", health.Fail, "")
	out, stderr, code := call(append(flags, "explain")...)
	for _, want := range []string{"the machine: ", "\n  because of shop: ", "\n    because of web: ", "\n      because of web/http: fail for ", "503", "besides: healthd pass", "last changes:"} {
		if code != cli.ExitOK || !strings.Contains(out, want) {
			t.Errorf("explain lacks %q: %d %s%s", want, code, out, stderr)
		}
	}
	if out, _, _ := call(append(flags, "explain", "web/disk")...); !strings.Contains(out, "web/disk: pass for") || !strings.Contains(out, "used_ratio = ") || !strings.Contains(out, "last check: ") {
		t.Errorf("explain a check: %s", out)
	}
	if _, stderr, code := call(append(flags, "explain", "eb")...); code != cli.ExitUsage || !strings.Contains(stderr, `"eb": there is no such node; there are web, web/disk, web/http`) {
		t.Errorf("explain what is not there: %d %s", code, stderr)
	}
	if out, stderr, code := call(append(flags, "maintenance", "on", "shop", "--for", "10m")...); code != cli.ExitOK || !strings.HasPrefix(out, "maintenance of shop until 20") {
		t.Errorf("maintenance on: %d %s%s", code, out, stderr)
	}
	if n := i.node("web"); n.State != health.Maintenance || time.Until(n.Until).Round(time.Minute) != 10*time.Minute {
		t.Errorf("during maintenance: %+v", n)
	}
	if out, _, _ := call(append(flags, "explain", "web")...); !strings.Contains(out, "maintenance until 20") {
		t.Errorf("explain what is in maintenance: %s", out)
	}
	if out, _, code := call(append(flags, "maintenance", "off", "shop")...); code != cli.ExitOK || out != "maintenance of shop is off\n" {
		t.Errorf("maintenance off: %d %s", code, out)
	}
	i.awaitNode("web", health.Fail, "")
	// What it is part of may still be in maintenance.
	call(append(flags, "maintenance", "on")...)
	if out, _, code := call(append(flags, "maintenance", "off", "web")...); code != cli.ExitOK || !strings.HasPrefix(out, "maintenance of web is off, but what it is part of is in maintenance until 20") {
		t.Errorf("maintenance off within another: %d %s", code, out)
	}
	call(append(flags, "maintenance", "off")...)
	i.awaitNode("web", health.Fail, "")
	for _, want := range []string{`msg="maintenance is on" target="the machine" until=20`, `msg="maintenance is off" target="the machine"`} {
		if !strings.Contains(i.log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, i.log)
		}
	}
	// The last word is enough if there is one such node.
	if out, _, code := call(append(flags, "explain", "disk")...); code != cli.ExitOK || !strings.HasPrefix(out, "web/disk: pass for") {
		t.Errorf("explain by the last word: %d %s", code, out)
	}
	if out, _, code := call(append(flags, "maintenance", "on", "disk")...); code != cli.ExitOK || !strings.HasPrefix(out, "maintenance of web/disk until 20") {
		t.Errorf("maintenance by the last word: %d %s", code, out)
	}
	if _, stderr, code := call(append(flags, "maintenance", "on", "hsop")...); code != cli.ExitFailed || !strings.Contains(stderr, "there is no such node; did you mean shop?") {
		t.Errorf("maintenance of what is not there: %d %s", code, stderr)
	}
	// Only the socket may do that: a port is open to everybody on the machine.
	if code, _ := i.get("metrics.sock", maintenancePath); code != 404 {
		t.Errorf("the private listener answers %d to maintenance", code)
	}
	if info, err := os.Stat(filepath.Join(i.dir, "private.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket of the verbs: %v %v", info.Mode(), err)
	}
}
