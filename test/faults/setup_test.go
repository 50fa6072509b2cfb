package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// setup is a logship with a receiver behind it and a load in front of it.
type setup struct {
	*arrivals
	row   int
	dir   string   // of everything
	state string   // the state directory, with the spool
	net   string   // the first three numbers of the addresses
	set   []string // further settings, as after --set
	wrap  []string // what runs logship
	moved bool     // the next receiver has another address

	url       string // where logship ships to
	logship   *process
	receiver  *process
	load      *load
	rate      int           // messages per second
	idle      float64       // goroutines before the fault
	faults    int           // how often something broke that makes logship send again
	kept      time.Duration // how long what is confirmed may come again
	damage    int           // messages that a fault may have destroyed
	fields    int           // damaged fields that processes which have ended have told of
	recovered time.Duration // the longest time until a new message passed
	peak      int64         // the most memory of processes that have ended, in bytes
}

// networks counts setups: each one has addresses of its own.
var networks atomic.Uint32

// newSetup returns a setup whose processes do not run yet.
func newSetup(t *testing.T, row int) *setup {
	t.Helper()
	dir := t.TempDir()
	s := &setup{arrivals: newArrivals(), row: row, dir: dir, state: filepath.Join(dir, "state"), net: fmt.Sprintf("127.47.%d", networks.Add(1)%256)}
	s.url = "gelf+tcp://" + s.receiverAddress()
	return s
}

// receiverHost is the receiver's address without the port.
func (s *setup) receiverHost() string {
	if s.moved {
		return s.net + ".4"
	}
	return s.net + ".1"
}

func (s *setup) receiverAddress() string { return s.receiverHost() + ":12201" }
func (s *setup) inputAddress() string    { return s.net + ".2:12202" }

// begin starts the receiver, logship, and a load by HTTP, which goes to the spool, and
// returns when messages arrive.
func (s *setup) begin(t *testing.T, rate int) {
	t.Helper()
	s.beginWith(t, rate, post(t, s.inputAddress(), clientTimeout))
}

// beginFile does the same with a load that is written to a file, from where it can be
// read again.
func (s *setup) beginFile(t *testing.T, rate int) {
	t.Helper()
	path := filepath.Join(s.dir, "app.log")
	s.set = append(s.set, fmt.Sprintf("input.file.paths=[%q]", path), "input.file.start=head")
	s.beginWith(t, rate, write(path))
}

func (s *setup) beginWith(t *testing.T, rate int, put func(ctx context.Context, first, last int) error) {
	t.Helper()
	s.beginReceiver(t)
	s.beginLogship(t)
	s.beginLoad(t, rate, put)
	s.flows(t)
}

func (s *setup) beginLoad(t *testing.T, rate int, put func(ctx context.Context, first, last int) error) {
	t.Helper()
	s.rate = rate
	s.load = generate(t, rate, put)
}

// flows returns when messages arrive.
func (s *setup) flows(t *testing.T) {
	t.Helper()
	s.await(t, func() (bool, string) { return s.latest > 0, "nothing arrives" })
	s.idle = s.metric(t, "go_goroutines")
}

// beginReceiver starts a receiver that writes to a file of its own.
func (s *setup) beginReceiver(t *testing.T) {
	t.Helper()
	path := filepath.Join(s.dir, fmt.Sprintf("received.%d", len(s.paths)))
	s.next(t, path)
	s.receiver = begin(t, logship, "receive", "--quiet", "--tcp", s.receiverAddress(), "--file", path)
	s.receiver.said(t, "listening for GELF on tcp")
}

// config is what all setups have in common.
const config = `[input]
journald = { enabled = false }
[[input.gelf]]
listen = "http://%s"
[output]
url = "%s"
[state]
dir = "%s"
[spool]
min_free = 0
[metrics]
listen = "%s"
`

// beginLogship starts logship and returns when it takes messages.
func (s *setup) beginLogship(t *testing.T) {
	t.Helper()
	path := filepath.Join(s.dir, "logship.toml")
	must(t, os.WriteFile(path, fmt.Appendf(nil, config, s.inputAddress(), s.url, s.state, s.net+".2:9478"), 0o600))
	args := append(append([]string{}, s.wrap...), logship, "run", "--config", path)
	for _, setting := range s.set {
		args = append(args, "--set", setting)
	}
	s.logship = begin(t, args[0], args[1:]...)
	s.logship.said(t, "msg=ship ")
}

// metric returns the value of one of logship's metrics, named with its labels.
func (s *setup) metric(t *testing.T, name string) float64 {
	t.Helper()
	answer, err := http.Get("http://" + s.net + ".2:9478/metrics")
	must(t, err)
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			v, err := strconv.ParseFloat(value, 64)
			must(t, err)
			return v
		}
	}
	_, _ = io.Copy(io.Discard, answer.Body) // so that the connection is kept
	return 0
}

// killLogship ends logship without a warning: what the next one sends may come twice.
func (s *setup) killLogship(t *testing.T) {
	t.Helper()
	s.notePeak(t)
	s.logship.kill()
	s.faults++
}

// stopLogship ends logship in an orderly way, which costs no copies.
func (s *setup) stopLogship(t *testing.T) {
	t.Helper()
	s.notePeak(t)
	s.fields += int(s.metric(t, damagedFields))
	s.logship.stop(t)
}

// recover waits until a message passes that is issued from now on. It may take as long
// as the matrix says, and the slack of a busy machine.
func (s *setup) recover(t *testing.T, limit time.Duration) {
	t.Helper()
	const slack = 6 * time.Second
	began := time.Now()
	issued, _, _ := s.load.counts()
	until(t, limit+slack, func() (bool, string) {
		s.arrivals.load(t)
		return s.latest > issued, fmt.Sprintf("message %d has not come, the last one is %d", issued+1, s.latest)
	})
	s.recovered = max(s.recovered, time.Since(began))
}

// budget is what logship may take beside the 40 MB that every row allows: the binary,
// a batch, the window of an input.
const budget = 24 << 20

// notePeak keeps the most memory that logship has had until now.
func (s *setup) notePeak(t *testing.T) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.logship.cmd.Process.Pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	value, _, found := strings.Cut(rest, " kB")
	if !found {
		return // it is ending
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	must(t, err)
	s.peak = max(s.peak, kib<<10)
}

// cutBytes bounds what is not confirmed.
const cutBytes = 4 << 20

// verdict ends the load and logship and checks what must hold for all rows: all that was
// accepted has arrived, or is told to be damaged; nothing else has; as it was sent, and the
// first copies in their order; further copies have the event ID of the
// first, and are no more than what each of the faults may cost; memory is bounded and no
// goroutine is left.
func (s *setup) verdict(t *testing.T) (lost int) {
	t.Helper()
	s.load.stop()
	issued, accepted, failed := s.load.counts()
	s.await(t, func() (bool, string) {
		missing, told := s.missing(accepted), s.told(t)
		return missing <= told, fmt.Sprintf("%d of %d accepted messages are missing, %d are told", missing, accepted, told)
	})
	until(t, patience, func() (bool, string) {
		now := s.metric(t, "go_goroutines")
		return now <= s.idle+2, fmt.Sprintf("%v goroutines, before the fault there were %v", now, s.idle)
	})
	s.stopLogship(t)
	s.arrivals.load(t)
	lost = s.missing(accepted)
	if lost > s.damage {
		t.Errorf("%d messages are lost, only %d were damaged", lost, s.damage)
	}
	if s.disordered > 0 {
		t.Errorf("%d messages have come behind later ones", s.disordered)
	}
	if s.latest > issued {
		t.Errorf("message %d has come, the last one issued is %d", s.latest, issued)
	}
	if s.again > failed {
		t.Errorf("%d messages have come under another event ID, only %d were handed over again", s.again, failed)
	}
	if len(s.bad) > 0 {
		t.Errorf("%d messages are wrong, the first: %s", len(s.bad), s.bad[0])
	}
	if s.torn > s.faults {
		t.Errorf("%d messages are torn by %d faults", s.torn, s.faults)
	}
	if bound := s.window(); s.copies > bound {
		t.Errorf("%d copies, want at most %d for %d faults", s.copies, bound, s.faults)
	}
	if s.peak > budget+40<<20 {
		t.Errorf("logship has taken %d MB", s.peak>>20)
	}
	t.Logf("row %d: lost %d, duplicated %d, recovered %.1f s; %d messages, %d MB", s.row, lost, s.copies, s.recovered.Seconds(), accepted, s.peak>>20)
	return lost
}

// window returns how many messages the faults may have sent twice: of each what was not
// confirmed, and what was and did not get into the state file.
func (s *setup) window() int {
	if s.messages == 0 {
		return 0
	}
	const batchBytes, stateAge = 1 << 20, 2 // seconds
	return s.faults * ((cutBytes+batchBytes)/(s.bytes/s.messages) + (stateAge+int(s.kept.Seconds()))*s.rate)
}

// told returns how many messages are missing as messages about gaps say: entries, and
// fields of entries, of which a message may have been one.
func (s *setup) told(t *testing.T) int {
	t.Helper()
	entries := s.fields + int(s.metric(t, damagedFields))
	for _, n := range s.gaps {
		entries += int(n)
	}
	return entries
}

const damagedFields = `logship_gaps_total{reason="damaged_field"}`

// missing returns how many of the messages 1 to n have not come.
func (s *setup) missing(n int) (missing int) {
	for i := 1; i <= n; i++ {
		if s.first[i] == "" {
			missing++
		}
	}
	return missing
}
