package packages

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidecar/test/browser"
	"sidecar/test/machine"
)

const installPage = "../../docs/install.md"

// newcomer is somebody who follows docs/install.md: a user who may use sudo, in a
// directory with a release. The receiver of the machine stands in for Graylog.
type newcomer struct {
	*machine.Machine
	r release
}

const newcomerHome = "/home/newcomer"

// answers say to apt and dpkg what somebody at a terminal would: yes, and keep what I have
// edited.
const answers = `APT::Get::Assume-Yes "true";
DPkg::Options { "--force-confold"; };
`

func newNewcomer(t *testing.T, r release) newcomer {
	t.Helper()
	n := newcomer{boot(t, r), r}
	must(t, n.WriteFile(t.Context(), "/etc/apt/apt.conf.d/99answers", []byte(answers), 0o644))
	must(t, n.WriteFile(t.Context(), "/etc/sudoers.d/newcomer", []byte("newcomer ALL=(ALL) NOPASSWD: ALL\n"), 0o440))
	n.Do(t, "useradd", "--create-home", "--shell", "/bin/bash", "newcomer")
	n.Do(t, "sh", "-c", "cp /root/dist/*.deb "+newcomerHome)
	return n
}

// try types a block as it stands on the page, and returns what it shows, errors too.
func (n newcomer) try(t *testing.T, script string) (string, error) {
	t.Helper()
	script = strings.ReplaceAll(script, "graylog.example.com", "127.0.0.1")
	out, _, err := n.Run(t.Context(), "setpriv", "--reuid=newcomer", "--regid=newcomer", "--init-groups", "env", "HOME="+newcomerHome, "bash", "-ec", "exec 2>&1; cd "+newcomerHome+"\n"+script)
	return out, err
}

// until types a block until it shows all lines of another one, where … stands for
// anything.
func (n newcomer) until(t *testing.T, script, shows string) {
	t.Helper()
	n.Await(t, 2*time.Minute, func() (bool, string) {
		out, err := n.try(t, script)
		for line := range strings.Lines(strings.ReplaceAll(shows, "graylog.example.com", "127.0.0.1")) {
			pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, "\n")), "…", ".*")
			if !regexp.MustCompile("(?m)^" + pattern + "$").MatchString(out) {
				return false, fmt.Sprintf("%s%v\n%sdoes not show\n%s", script, err, out, line)
			}
		}
		return true, ""
	})
}

// step is what a test does around a section of the page.
type step struct {
	before func(t *testing.T)
	after  func(t *testing.T, shown string) // with what its commands showed
}

// testInstallPage follows docs/install.md from top to bottom. Every block of it is typed,
// or stands here with the reason why not.
func testInstallPage(t *testing.T, r release) {
	n := newNewcomer(t, r)
	elsewhere := map[string]string{
		"## Red Hat, Rocky, SUSE":       "there is no dnf: testRPMOnMachine",
		"## A release without packages": "another way to the same files: testInstallScript",
	}
	steps := map[string]step{
		"### 1. Install":                      {after: n.checkInstalled},
		"### 2. Ship the journal":             {},
		"### 3. Watch a service":              {before: n.startShop, after: n.checkMessages},
		"### 4. Show it to the world: nginx":  {},
		"### 5. Keep the figures: Prometheus": {after: n.checkPrometheus},
		"## Upgrade":                          {before: n.fetchUpgrade, after: n.checkUpgrade},
		"## Remove":                           {after: n.checkRemoved},
		"### With configuration and state":    {after: n.checkPurged},
	}
	for blocks := machine.Blocks(t, installPage); len(blocks) > 0; {
		heading := blocks[0].Headings[len(blocks[0].Headings)-1]
		end := slices.IndexFunc(blocks, func(b machine.Block) bool { return b.Headings[len(b.Headings)-1] != heading })
		if end < 0 {
			end = len(blocks)
		}
		step, known := steps[heading]
		switch {
		case known:
			n.follow(t, step, blocks[:end])
		case elsewhere[heading] == "":
			t.Errorf("nobody follows %q", heading)
		}
		delete(steps, heading)
		delete(elsewhere, heading)
		blocks = blocks[end:]
	}
	if len(steps)+len(elsewhere) > 0 {
		t.Errorf("not on the page: %v %v", steps, elsewhere)
	}
}

// follow types the blocks of a section. What a block of text comes behind is typed until
// it shows that, everything else once.
func (n newcomer) follow(t *testing.T, s step, blocks []machine.Block) {
	t.Helper()
	if s.before != nil {
		s.before(t)
	}
	var shown strings.Builder
	for i, block := range blocks {
		switch next := i + 1; {
		case block.Language == "text":
		case next < len(blocks) && blocks[next].Language == "text":
			n.until(t, block.Text, blocks[next].Text)
		default:
			out, err := n.try(t, block.Text)
			if err != nil {
				t.Fatalf("%s%v\n%s", block.Text, err, out)
			}
			shown.WriteString(out)
		}
	}
	if s.after != nil {
		s.after(t, shown.String())
	}
}

func (n newcomer) checkInstalled(t *testing.T, shown string) {
	t.Helper()
	if strings.Count(shown, "logship: enabled, not started: it has no /etc/logship/logship.toml yet") != 1 || strings.Contains(shown, "healthd: enabled, not started") {
		t.Errorf("apt said:\n%s", shown)
	}
	n.Do(t, "systemctl", "start", "logship") // as a boot would
	wantState(t, n.Machine, "logship.service", "inactive enabled")
	wantState(t, n.Machine, "healthd.service", "active enabled")
	wantState(t, n.Machine, "healthd.socket", "active enabled")
}

func (n newcomer) startShop(t *testing.T) {
	t.Helper()
	n.Do(t, "systemctl", "enable", "--now", "shop")
}

// checkMessages: the shop's lines have come, one like the other, with the fields of
// docs/mapping.md.
func (n newcomer) checkMessages(t *testing.T, _ string) {
	t.Helper()
	awaitReceived(t, n.Machine, 100)
	var got map[string]any
	line := n.Do(t, "grep", "--max-count=1", `"_n":42,`, receivedPath)
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for field, want := range map[string]any{
		"version": "1.1", "host": n.Do(t, "hostname"), "short_message": "order A-1042 accepted for 42.5 EUR", "level": 6.0, "_level_name": "info",
		"_service_name": "shop.service", "_stream": "shop", "_user_id": 42.0, "_user_vip": "true", "_user_geo_city": "Köln", "_durationMs": 10.5,
	} {
		if got[field] != want {
			t.Errorf("%s is %v, want %v, in\n%s", field, got[field], want, line)
		}
	}
	sent, _ := got["timestamp"].(float64)
	if started, err := strconv.ParseFloat(n.Do(t, "stat", "-c", "%.3Y", "/etc/logship/logship.toml"), 64); err != nil || sent < started || sent > float64(time.Now().Add(time.Second).Unix()) {
		t.Errorf("the timestamp is %.3f, of a line after %.3f, %v", sent, started, err)
	}
}

// fetchUpgrade puts a newer release in the place of the one that was installed; of its
// defaults those of healthd were edited here.
func (n newcomer) fetchUpgrade(t *testing.T) {
	t.Helper()
	n.fetch(t, "1.2.4")
	n.Do(t, "sh", "-c", "echo '# edited' >>/etc/healthd/default.toml")
	n.Do(t, "sh", "-c", processes+" >/run/before")
}

const processes = "systemctl show --property=MainPID --value logship healthd"

func (n newcomer) fetch(t *testing.T, version string) {
	t.Helper()
	n.Do(t, "sh", "-c", "rm "+newcomerHome+"/*.deb")
	for _, name := range []string{"logship", "healthd"} {
		must(t, n.CopyIn(t.Context(), n.r.repack(t, name, version), newcomerHome+"/"+name+"_"+version+"_amd64.deb", 0o644))
	}
}

func (n newcomer) wantVersion(t *testing.T, want string) {
	t.Helper()
	if got := n.Do(t, "dpkg-query", "-W", "-f", "${Version} ", "logship", "healthd"); got != want+" "+want {
		t.Errorf("installed are %s, want %s", got, want)
	}
}

// checkUpgrade: other processes, the same configuration, and every line has come once.
// What is disabled stays so.
func (n newcomer) checkUpgrade(t *testing.T, _ string) {
	t.Helper()
	n.wantVersion(t, "1.2.4")
	before, after := strings.Fields(n.Do(t, "cat", "/run/before")), strings.Fields(n.Do(t, "sh", "-c", processes))
	if len(before) != 2 || len(after) != 2 || before[0] == after[0] || before[1] == after[1] {
		t.Errorf("before the upgrade there run %q, after it %q", before, after)
	}
	if got := n.Do(t, "sh", "-c", "tail -n 1 /etc/logship/default.toml; tail -n 1 /etc/healthd/default.toml; cat /etc/logship/logship.toml"); got != "# 1.2.4\n# edited\noutput.url = \"gelf+tcp://127.0.0.1:12201\"" {
		t.Errorf("the configuration after the upgrade: %s", got)
	}
	atUpgrade := logged(t, n.Machine)
	n.Await(t, 2*time.Minute, func() (bool, string) {
		lines := logged(t, n.Machine)
		return lines >= atUpgrade+100, fmt.Sprintf("the shop has logged %d lines", lines)
	})
	n.checkStatusPage(t) // which ends the shop
	lines := logged(t, n.Machine)
	awaitReceived(t, n.Machine, lines)
	if got := n.Do(t, "grep", "--count", `"_stream":"shop"`, receivedPath); got != strconv.Itoa(lines) {
		t.Errorf("%d lines have come as %s messages", lines, got)
	}

	n.Do(t, "systemctl", "disable", "--now", "healthd.service", "healthd.socket", "healthd-metrics.socket") // Prometheus would start it
	n.fetch(t, "1.2.5")
	n.follow(t, step{}, []machine.Block{{Text: machine.Example(t, installPage, "## Upgrade", "sh")}})
	n.wantVersion(t, "1.2.5")
	wantState(t, n.Machine, "healthd.service", "inactive disabled")
}

// checkStatusPage looks at the page with a browser, by way of nginx, while the shop is
// well, and after it was stopped.
func (n newcomer) checkStatusPage(t *testing.T) {
	t.Helper()
	b := browser.Start(t, "nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", n.Leader()))
	shows := func(words ...string) {
		t.Helper()
		n.Await(t, 2*time.Minute, func() (bool, string) {
			var text string
			b.Open("http://127.0.0.1/status", 1280, 1000, "light")
			b.Eval("document.body.innerText", &text)
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }), fmt.Sprintf("no %q on the page:\n%s", words, text)
		})
	}
	shows("All systems are operational", "Shop", "Operational")
	n.Do(t, "systemctl", "stop", "shop")
	n.until(t, "curl -s http://127.0.0.1/health", `{"status":"fail",…"parts":[{"n":"Shop","s":"down"}]}`)
	shows("There is an outage", "Shop", "Outage")
	for _, complaint := range b.Console {
		t.Errorf("console: %s", complaint)
	}
}

// checkRemoved: what was made stays, and is used when logship comes back.
func (n newcomer) checkRemoved(t *testing.T, _ string) {
	t.Helper()
	n.Do(t, "sh", "-ec", "test ! -e /usr/bin/logship; test ! -e /usr/bin/healthd; test -e /etc/logship/default.toml; test -e /var/lib/private/logship/state.json; test -d /var/lib/healthd")
	if got := n.Do(t, "sh", "-c", "pgrep -a 'logship|healthd' || true"); got != "" {
		t.Errorf("after the removal there runs %s", got)
	}
	n.Do(t, "sh", "-c", "apt-get install "+newcomerHome+"/logship_*.deb")
	wantState(t, n.Machine, "logship.service", "active enabled")
}

// checkPurged: nothing is left but what the newcomer has put elsewhere.
func (n newcomer) checkPurged(t *testing.T, _ string) {
	t.Helper()
	left := n.Do(t, "sh", "-c", `find /etc /usr/bin /usr/lib/systemd /usr/lib/sysusers.d /usr/lib/tmpfiles.d /usr/share/bash-completion /usr/share/doc /usr/share/man /var/lib \( -name 'logship*' -o -name 'healthd*' \) -newer /etc/machine-id ! -path '/etc/nginx/*' ! -path '/var/lib/nginx/*' -print`)
	if left != "" {
		t.Errorf("after the purge there is\n%s", left)
	}
	if failed := n.Do(t, "systemctl", "list-units", "--state=failed", "--plain", "--no-legend"); failed != "" {
		t.Errorf("failed: %s", failed)
	}
}

// checkPrometheus: every metric that can be there is there, those of the shop too, and
// every rule and alert is evaluated.
func (n newcomer) checkPrometheus(t *testing.T, _ string) {
	t.Helper()
	// What a machine without inputs over sockets, without sums, and with nothing wrong
	// does not have.
	absent := regexp.MustCompile(`^(logship_(spool|buffer|syslog|gelf)_.*|logship_gap(s|_entries)_total|logship_messages_degraded_total|` +
		`healthd_sum_.*|healthd_target_rejected_lines_total|healthd_check_VALUE)$`)
	want := []string{"shop_log_lines_total", "nodejs_eventloop_lag_seconds", "healthd_check_restarts_total", "healthd_check_lag_entries"}
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:logship|healthd)_\\w+)`").FindAllStringSubmatch(string(read(t, "../../docs/metrics.md")), -1) {
		if !absent.MatchString(m[1]) {
			want = append(want, m[1])
		}
	}
	if len(want) < 50 {
		t.Errorf("%d metrics are found, the search is broken", len(want))
	}
	n.Await(t, 2*time.Minute, func() (bool, string) {
		var names []string
		n.prometheus(t, "label/__name__/values", &names)
		missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return slices.Contains(names, name) })
		return len(missing) == 0, fmt.Sprintf("Prometheus does not have %q", missing)
	})
	scraped := time.Now() // before, rules had nothing to go wrong with
	n.Await(t, 2*time.Minute, func() (bool, string) {
		var loaded struct {
			Groups []struct {
				Rules []struct {
					Name, Health, LastError string
					LastEvaluation          time.Time
				}
			}
		}
		n.prometheus(t, "rules", &loaded)
		rules, bad := 0, ""
		for _, group := range loaded.Groups {
			for _, rule := range group.Rules {
				rules++
				if rule.Health != "ok" || rule.LastEvaluation.Before(scraped) {
					bad += fmt.Sprintf("%s is %s at %v: %s\n", rule.Name, rule.Health, rule.LastEvaluation, rule.LastError)
				}
			}
		}
		return rules >= 30 && bad == "", fmt.Sprintf("%d rules\n%s", rules, bad)
	})
}

// prometheus reads what the API of Prometheus has at a path. Before it is ready it has
// nothing.
func (n newcomer) prometheus(t *testing.T, path string, data any) {
	t.Helper()
	out, err := n.try(t, "curl -s http://127.0.0.1:9090/api/v1/"+path)
	if err == nil {
		_ = json.Unmarshal([]byte(out), &struct{ Data any }{data}) // then nothing is there
	}
}
