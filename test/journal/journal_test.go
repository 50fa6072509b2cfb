// Package journal tests the journal reader against a real journald.
package journal

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidecar/internal/journal"
	"sidecar/internal/record"
	"sidecar/test/machine"
)

// writer is the program that logs numbered entries: the test binary itself.
const writer = "/usr/local/bin/writer"

// TestMain makes the test binary a writer when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "write" {
		if err := write(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// write logs count entries as fast as journald takes them, with the native
// protocol (systemd JOURNAL_NATIVE_PROTOCOL).
func write(id, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	conn, err := net.Dial("unixgram", "/run/systemd/journal/socket")
	if err != nil {
		return err
	}
	defer conn.Close()
	pad := strings.Repeat("x", 500)
	for i := range n {
		if _, err := fmt.Fprintf(conn, "MESSAGE=%s %d\nSYSLOG_IDENTIFIER=%s\nPRIORITY=6\nPAD=%d%s\n", id, i, id, i, pad); err != nil {
			return err
		}
	}
	return nil
}

// box is a machine with a journald of its own.
type box struct {
	*machine.Machine
	t *testing.T
}

func boot(t *testing.T) *box {
	t.Helper()
	m := machine.Boot(t, machine.Options{JournaldConf: "[Journal]\nRateLimitBurst=0\nSystemMaxFileSize=4M\nSystemMaxUse=1G\n"})
	b := &box{m, t}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.CopyIn(t.Context(), exe, writer, 0o755); err != nil {
		t.Fatal(err)
	}
	// The cases restart and kill journald more often than systemd lets a unit fail.
	for _, unit := range []string{"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"} {
		conf := "[Unit]\nStartLimitIntervalSec=0\n"
		if strings.HasSuffix(unit, ".socket") {
			conf += "[Socket]\nTriggerLimitIntervalSec=0\n"
		}
		if err := m.WriteFile(t.Context(), "/etc/systemd/system/"+unit+".d/30-test.conf", []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.run("systemctl", "daemon-reload")
	return b
}

// on returns b for a subtest.
func (b *box) on(t *testing.T) *box { return &box{b.Machine, t} }

func (b *box) run(args ...string) string {
	b.t.Helper()
	return b.Do(b.t, args...)
}

// log logs lines under an identifier and returns when they are in the journal.
func (b *box) log(id string, lines ...string) {
	b.t.Helper()
	for _, line := range lines {
		b.run("logger", "-t", id, "--", line)
	}
	// journald may be about to start again.
	b.run("timeout", "20", "sh", "-c", "until journalctl --sync 2>/dev/null; do sleep 0.02; done")
}

// configure replaces journald's configuration and restarts it.
func (b *box) configure(conf string) {
	b.t.Helper()
	if err := b.WriteFile(b.t.Context(), "/etc/systemd/journald.conf.d/30-test.conf", []byte("[Journal]\n"+conf), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.run("systemctl", "restart", "systemd-journald")
}

// options say where the journal of b is, as the host sees it.
func (b *box) options() journal.SourceOptions {
	b.t.Helper()
	id := strings.TrimSpace(b.run("cat", "/etc/machine-id"))
	var o journal.SourceOptions
	o.Places = []journal.Place{{Root: b.Path("/run/log/journal"), Machine: id, Volatile: true}, {Root: b.Path("/var/log/journal"), Machine: id}}
	return o
}

// reader follows a journal as the line does.
type reader struct {
	t    *testing.T
	s    *journal.Source
	gaps []journal.Gap
	stop func()
	// The first and the highest sequence number of what came, and how much.
	lowest, highest, count uint64
}

func follow(t *testing.T, o journal.SourceOptions) *reader {
	t.Helper()
	r := &reader{t: t}
	o.OnGap = func(g journal.Gap) { r.gaps = append(r.gaps, g) }
	var err error
	if r.s, err = journal.NewSource(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := r.s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// wait returns when there may be more, or after a while; it fails at the deadline.
func (r *reader) wait(deadline <-chan time.Time) {
	r.t.Helper()
	timer := time.NewTimer(r.s.Idle(time.Now()))
	defer timer.Stop()
	select {
	case <-r.s.Ready():
	case <-timer.C:
	case <-deadline:
		r.t.Fatalf("it does not come in a minute; gaps %+v", r.gaps)
	}
}

// until reads on until visit returns false.
func (r *reader) until(visit func(*record.Entry) bool) {
	r.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	var e record.Entry
	for {
		ok, err := r.s.Next(&e)
		if err != nil {
			r.t.Fatal(err)
		}
		if !ok {
			r.wait(deadline.C)
			continue
		}
		r.count++
		seqnum, err := strconv.ParseUint(strings.Split(string(e.ID), "-")[1], 16, 64)
		if err != nil {
			r.t.Fatal(err)
		}
		if r.highest == 0 {
			r.lowest = seqnum
		}
		r.highest = max(r.highest, seqnum)
		if !visit(&e) {
			return
		}
	}
}

// lines returns the messages under an identifier up to the one that is last.
func (r *reader) lines(id, last string) (got []string) {
	r.t.Helper()
	r.until(func(e *record.Entry) bool {
		if string(e.Identifier) != id {
			return true
		}
		got = append(got, string(e.Message))
		return string(e.Message) != last
	})
	return got
}

// want fails if the lines under an identifier up to the last of want are others.
func (r *reader) want(id string, want ...string) {
	r.t.Helper()
	got := r.lines(id, want[len(want)-1])
	if strings.Join(got, "|") != strings.Join(want, "|") {
		r.t.Errorf("lines of %s: %q, want %q", id, got, want)
	}
}

// missing returns how many entries the gaps count.
func (r *reader) missing() (n uint64) {
	for _, g := range r.gaps {
		n += g.Entries
	}
	return n
}

// restart stops r and returns a reader that resumes where it was.
func (r *reader) restart(o journal.SourceOptions, meanwhile func()) *reader {
	r.t.Helper()
	position, err := r.s.Position(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.stop()
	meanwhile()
	again := follow(r.t, o)
	if err := again.s.Rewind(position); err != nil {
		r.t.Fatal(err)
	}
	return again
}
