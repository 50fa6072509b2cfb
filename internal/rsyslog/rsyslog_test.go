package rsyslog

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pelletier/go-toml/v2"
)

var update = flag.Bool("update", false, "rewrite the proposals in testdata")

// configurations are those of testdata that forward something.
func configurations(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("testdata/*/proposal.toml")
	if err != nil || len(found) < 5 {
		t.Fatalf("%q, %v", found, err)
	}
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return found
}

// TestPropose compares the proposals with those that were read and found right.
func TestPropose(t *testing.T) {
	for _, dir := range configurations(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got, err := Propose(os.DirFS(dir), []string{"/etc/rsyslog.conf"})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "proposal.toml")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || got != string(want) {
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
}

// TestConfigurationsAreRsyslogs has Debian's rsyslogd validate what the proposals are
// made of.
func TestConfigurationsAreRsyslogs(t *testing.T) {
	for _, dir := range append(configurations(t), "testdata/none") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			copied := t.TempDir() // the includes are absolute
			err := fs.WalkDir(os.DirFS(dir), "etc", func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				text, err := os.ReadFile(filepath.Join(dir, path))
				if err != nil {
					return err
				}
				to := filepath.Join(copied, path)
				if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
					return err
				}
				for _, name := range regexp.MustCompile(`/etc/ssl/[\w.-]+`).FindAllString(string(text), -1) {
					if err := os.WriteFile(filepath.Join(copied, filepath.Base(name)), nil, 0o600); err != nil { // it must only be there
						return err
					}
				}
				moved := strings.NewReplacer("/etc/rsyslog.d", copied+"/etc/rsyslog.d", "/etc/ssl", copied, "/var/spool/rsyslog", copied)
				return os.WriteFile(to, []byte(moved.Replace(string(text))), 0o644)
			})
			if err != nil {
				t.Fatal(err)
			}
			out, err := rsyslogd(t, "-N1", "-f", filepath.Join(copied, "etc/rsyslog.conf")).CombinedOutput()
			if err != nil || strings.Count(string(out), "\n") != 2 { // which version, and that it ends
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// rsyslogd returns the command of Debian's rsyslogd.
func rsyslogd(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	senders, err := filepath.Abs("../../.cache/senders")
	if err != nil {
		t.Fatal(err)
	}
	daemon := filepath.Join(senders, "usr/sbin/rsyslogd")
	libraries, _ := filepath.Glob(filepath.Join(senders, "usr/lib/*-linux-gnu"))
	if _, err := os.Stat(daemon); err != nil || len(libraries) != 1 {
		t.Skip("needs Debian's rsyslog: test/setup/unpack.sh senders")
	}
	cmd := exec.CommandContext(t.Context(), daemon, append([]string{"-M", filepath.Join(libraries[0], "rsyslog")}, args...)...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries[0])
	return cmd
}

func TestProposeErrors(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, c := range map[string]struct {
		root fs.FS
		want string
	}{
		"no forward":      {os.DirFS("testdata/none"), ErrNoForward.Error()},
		"no file":         {fstest.MapFS{}, "read /etc/rsyslog.conf: file does not exist"},
		"missing include": {fstest.MapFS{"etc/rsyslog.conf": file("$ModLoad x\n$IncludeConfig /etc/y.conf\n")}, `/etc/rsyslog.conf:2: include "/etc/y.conf": file does not exist`},
		"another output":  {fstest.MapFS{"etc/rsyslog.conf": file(`*.* action(type="omkafka" broker="k1" topic="logs")`)}, ErrNoForward.Error() + "; not taken over: /etc/rsyslog.conf:1: action of type omkafka: logship can send there, see docs/brokers.md"},
		"endless include": {fstest.MapFS{"etc/rsyslog.conf": file(`include(file="rsyslog.conf")`)}, "/etc/rsyslog.conf is included by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Propose(c.root, []string{"/etc/rsyslog.conf"})
			if err == nil || err.Error() != c.want || errors.Is(err, ErrNoForward) != strings.HasPrefix(c.want, ErrNoForward.Error()) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestSelectors: what sysklogd selectors let pass, by facility.
func TestSelectors(t *testing.T) {
	for _, c := range []struct {
		selector string
		facility int
		want     uint8
	}{
		{"*.*", 13, 0xff}, {"*.emerg", 0, 1}, {"*.panic", 0, 1}, {"*.err", 3, 0x0f}, {"*.error", 3, 0x0f}, {"*.debug", 3, 0xff},
		{"mail.info", 2, 0x7f}, {"mail.info", 3, 0}, {"*.=debug", 3, 0x80}, {"*.*;mail.none", 2, 0}, {"*.*;mail.none", 3, 0xff},
		{"*.*;mail.!err", 2, 0xf0}, {"*.*;mail.!=err", 2, 0xf7}, {"auth,authpriv.*", 10, 0xff}, {"auth,authpriv.*", 9, 0},
		{"local7.notice", 23, 0x3f}, {"security.*", 4, 0xff}, {`prifilt("*.warn")`, 1, 0x1f},
	} {
		w := wanted{masks: everything()}
		if ok := w.selector(c.selector); !ok || w.masks[c.facility] != c.want {
			t.Errorf("%s: facility %d: %v, %08b, want %08b", c.selector, c.facility, ok, w.masks[c.facility], c.want)
		}
	}
	for _, bad := range []string{"", "mail", "post.*", "auth,post.*", "mail.loud", "*.*;mail", "$msg contains 'a.b'", "local8.*"} {
		w := wanted{masks: everything()}
		if w.selector(bad) {
			t.Errorf("%q is taken for a selector", bad)
		}
	}
}

// TestPriorities: what comparisons with facilities and severities let pass, by facility.
func TestPriorities(t *testing.T) {
	for _, c := range []struct {
		condition string
		facility  int
		want      uint8
	}{
		{"$syslogseverity <= 4", 3, 0x1f}, {"$syslogseverity < '4'", 3, 0x0f}, {"$syslogseverity == 0", 3, 1}, {"$syslogseverity != 0", 3, 0xfe},
		{"$syslogseverity <> 0", 3, 0xfe}, {"$syslogseverity > 6", 3, 0x80}, {"$syslogseverity >= 6", 3, 0xc0}, {"$syslogseverity-text == 'err'", 3, 0x08},
		{"$syslogfacility-text == 'local0'", 16, 0xff}, {"$syslogfacility-text == 'local0'", 17, 0}, {"$syslogfacility-text != \"mail\"", 2, 0},
		{"$syslogfacility == 3 and $syslogseverity <= 3", 3, 0x0f}, {"$syslogfacility == 3 and $syslogseverity <= 3", 4, 0},
		{"($syslogfacility == 3 or $syslogseverity <= 3)", 3, 0xff}, {"$syslogfacility == 3 or $syslogseverity <= 3", 4, 0x0f},
	} {
		w := wanted{masks: everything()}
		if ok := w.priorities(c.condition); !ok || w.masks[c.facility] != c.want {
			t.Errorf("%s: facility %d: %v, %08b, want %08b", c.condition, c.facility, ok, w.masks[c.facility], c.want)
		}
	}
	for _, bad := range []string{"", "$syslogseverity", "$syslogseverity ~ 4", "$syslogseverity-text <= 'err'", "$syslogseverity-text == 'loud'", "$syslogfacility-text == 'post'",
		"$syslogseverity <= x", "$pri <= 4", "$syslogseverity <= 4 and $msg contains 'a'", "not ($syslogseverity <= 4)"} {
		w := wanted{masks: everything()}
		if w.priorities(bad) || w.masks != everything() {
			t.Errorf("%q is taken for a priority", bad)
		}
	}
}

// TestStops: what a filter before stop leaves out.
func TestStops(t *testing.T) {
	for filter, want := range map[string]drop{
		`:programname, isequal, "cron"`:     {identifier: "cron"},
		`:programname,startswith,"sys[t]*"`: {identifier: `sys\[t\]\**`},
		`:msg, contains, "a \"b\""`:         {message: `*a "b"*`},
		`:msg, startswith, " GET"`:          {message: "GET*"},
		`:msg, ereregex, "^a|b$"`:           {message: "~^a|b$"},
		`$msg contains 'x'`:                 {message: "*x*"},
		`($programname == "a")`:             {identifier: "a"},
		`$programname == ["b"]`:             {identifier: "b"},

		`$programname == "a" and $msg contains " and b or "`: {identifier: "a", message: "* and b or *"},
	} {
		if got, ok := stopped(place{}, []string{filter}); !ok || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v, %v", filter, got, ok)
		}
	}
	for _, filter := range []string{`:msg, !contains, "a"`, `:hostname, isequal, "a"`, `:msg, ereregex, "("`, `:msg, contains, ""`, `$msg contains "a" and $x == "b"`, "*.*",
		`$msg contains "a" and $msg contains "b"`, `$programname == "a" or ($msg contains "b" and $msg contains "c")`, `not ($programname == "a")`} {
		if got, ok := stopped(place{}, []string{filter}); ok {
			t.Errorf("%s: %+v", filter, got)
		}
	}
}

// FuzzParse: of any text comes TOML or an error.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/etc/rsyslog.conf")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("}{ if x then else & : action( template(name=\"a\"){ property( $")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Propose(fstest.MapFS{"c": &fstest.MapFile{Data: []byte(text)}}, []string{"/c"})
		if err != nil && got != "" {
			t.Errorf("%q beside %v", got, err)
		}
		if err := toml.Unmarshal([]byte(got), new(map[string]any)); err != nil {
			t.Errorf("%v\n%s", err, got)
		}
	})
}
