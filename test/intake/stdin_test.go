package intake

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

const (
	stdinPipe = "/run/logship.stdin"
	stdinUnit = `[Socket]
FileDescriptorName=stdin
Service=logship.service
ListenFIFO=` + stdinPipe + "\n"
	stdinService = "[Service]\nStandardInput=fd:stdin\nStandardOutput=journal\nStandardError=journal\n"
	stdinConf    = "input.stdin.enabled = true\n"
)

// TestStdin restarts and kills a logship whose standard input is a pipe of a socket unit
// (systemd.exec(5), StandardInput=fd:), under load. The pipe outlives the process. At a
// restart nothing is lost and no line is torn; at a kill, what was read and not stored: one
// read.
func TestStdin(t *testing.T) {
	d := start(t, socketUnit(t), "")
	must(t, d.WriteFile(t.Context(), "/etc/systemd/system/logship-stdin.socket", []byte(stdinUnit), 0o644))
	must(t, d.WriteFile(t.Context(), "/etc/systemd/system/logship.service.d/stdin.conf", []byte(stdinService), 0o644))
	must(t, d.WriteFile(t.Context(), "/etc/logship/logship.toml", []byte(config+stdinConf), 0o644))
	d.Do(t, "sh", "-c", "systemctl stop logship-syslog.socket logship.service && systemctl daemon-reload && systemctl start logship-stdin.socket && systemctl start logship.service")
	pipe, err := os.OpenFile(d.Path(stdinPipe), os.O_WRONLY, 0)
	must(t, err)
	defer pipe.Close()

	restarted := d.pour(t, pipe, "restarted", func() { d.Do(t, "systemctl", "restart", "logship.service") }) // the pipe is full meanwhile
	d.awaitAll(t, map[string]sent{"restarted": restarted})
	if d.others > 0 {
		t.Errorf("%d lines are torn", d.others)
	}

	d.killed = true
	killed := d.pour(t, pipe, "killed", func() { d.signal(t, "KILL", "logship.service") })
	d.await(t, func() (bool, string) { return d.numbers["killed"][killed.Sent] != "", "the last line has not come" })
	const read = 64 << 10 // bytes, the most that one read of standard input takes
	lost := d.missing("killed", killed.Sent)
	if holes := d.holes("killed", killed.Sent); holes > 1 || lost > read/len(line("killed", 1000))+2 || d.others > 1 {
		t.Errorf("%d lines are lost at %d places, %d torn", lost, holes, d.others)
	}
	d.check(t, map[string]sent{"killed": killed})
	t.Logf("of %d lines the kill cost %d", killed.Sent, lost)
}

// pour writes numbered lines for two seconds, does something in the middle, and returns
// the account.
func (d daemon) pour(t *testing.T, w io.Writer, stream string, middle func()) sent {
	t.Helper()
	const count, rate = 8000, 4000
	failed := make(chan error, 1)
	go func() {
		p := newPace(rate)
		for n := 1; n <= count; n++ {
			_ = p.wait(n, nil) // never fails without a writer
			if _, err := io.WriteString(w, line(stream, n)); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	pause(time.Second)
	middle()
	must(t, <-failed)
	return sent{Stream: stream, Sent: count}
}

// line returns line n of standard input: less than PIPE_BUF, so that it is in the pipe
// whole (pipe(7)).
func line(stream string, n int) string {
	return fmt.Sprintf(`_jsonrc:{"stream":%q,"n":%d,"filling":"%s"}`+"\n", stream, n, filling(n, 300))
}
