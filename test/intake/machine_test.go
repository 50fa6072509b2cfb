package intake

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidecar/test/machine"
)

const (
	sender = "INTAKE_TEST_SENDER" // set where this program is the sender
	// senderPatience is how long senders may take.
	senderPatience = 4 * time.Minute
	received       = "/var/lib/received.jsonl"
	config         = `output.url = "gelf+tcp://127.0.0.1:12201"
input.journald.enabled = false
`
	receiverUnit = `[Service]
ExecStart=/usr/bin/logship receive --tcp 127.0.0.1:12201 --quiet --file ` + received + "\n"

	stop = "systemctl stop logship-syslog.socket logship.service && systemctl kill --signal=KILL receiver.service; systemctl stop receiver.service"

	diagnose = "systemctl status --no-pager logship receiver logship-syslog.socket; journalctl -u logship -u receiver -n 40 --no-pager"
)

// TestMain is also the program that sends in the machine.
func TestMain(m *testing.M) {
	if os.Getenv(sender) == "" {
		os.Exit(m.Run())
	}
	// A sender that hangs says where, before who waits for it ends it.
	time.AfterFunc(senderPatience-10*time.Second, func() {
		debug.SetTraceback("all")
		panic("still sending")
	})
	if err := send(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// socketUnit returns the input that docs/sources.md has for the socket unit.
func socketUnit(t *testing.T) string { return example(t, "toml") }

// example returns the example in a language from docs/sources.md, "Sockets of systemd".
func example(t *testing.T, language string) string {
	t.Helper()
	return machine.Example(t, "../../docs/sources.md", "### Sockets of systemd", language)
}

// daemon is logship in a machine, with what its receiver gets.
type daemon struct {
	*machine.Machine
	*arrivals
	killed bool // then messages may come twice
}

// start boots a machine with the units as they are shipped, a receiver, and this program
// as the sender, and starts logship there with some configuration and settings of its
// unit, as an operator would.
func start(t *testing.T, conf, unit string) daemon {
	t.Helper()
	units := "/etc/systemd/system/"
	m := machine.Boot(t, machine.Options{Hostname: "web-03", DiskBytes: 4 << 30, Diagnose: diagnose, ExtraFiles: []machine.File{
		{Path: units + "receiver.service", Data: []byte(receiverUnit)},
		{Path: units + "logship.service", Data: read(t, "../../deploy/systemd/logship.service")},
		{Path: "/etc/tmpfiles.d/logship.conf", Data: read(t, "../../deploy/systemd/logship.tmpfiles")},
		{Path: units + "logship.service.d/test.conf", Data: []byte("[Service]\nRestartSec=100ms\n" + unit)},
		{Path: "/etc/logship/logship.toml", Data: []byte(config + conf)},
		{Path: "/srv/repo/deploy/systemd/logship-syslog.socket", Data: read(t, "../../deploy/systemd/logship-syslog.socket")},
	}})
	must(t, m.CopyIn(t.Context(), machine.Build(t), "/usr/bin/logship", 0o755))
	self, err := os.Executable()
	must(t, err)
	must(t, m.CopyIn(t.Context(), self, "/opt/sender", 0o755))
	m.Do(t, "systemctl", "start", "receiver.service")
	m.Do(t, "bash", "-c", "set -e; cd /srv/repo; sudo() { \"$@\"; }\n"+example(t, "sh"))
	return daemon{Machine: m, arrivals: newArrivals(m)}
}

// signal sends a signal to a service.
func (d daemon) signal(t *testing.T, name, unit string) {
	t.Helper()
	d.Do(t, "systemctl", "kill", "--signal="+name, unit)
}

// begin starts senders. The function that it returns waits for their end, and fails
// the test if one of them did not get to it.
func (d daemon) begin(t *testing.T, flows ...flow) (end func() map[string]sent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), senderPatience)
	t.Cleanup(cancel)
	input, err := json.Marshal(flows)
	must(t, err)
	cmd := d.Command(ctx, "/opt/sender")
	cmd.Env = append(cmd.Env, sender+"=1")
	var out, log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &log
	must(t, cmd.Start())
	return func() map[string]sent {
		t.Helper()
		defer cancel()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("senders: %v\n%s\n%s", err, log.Bytes(), d.Do(t, "sh", "-c", diagnose+"; true"))
		}
		var all []sent
		must(t, json.Unmarshal(out.Bytes(), &all))
		accounts := map[string]sent{}
		for _, a := range all {
			accounts[a.Stream] = a
		}
		return accounts
	}
}

// metrics returns logship's metrics by name and labels.
func (d daemon) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	return d.Samples(t, "http://127.0.0.1:9478/metrics")
}

// discarded returns how many datagrams logship has counted as discarded.
func (d daemon) discarded(t *testing.T) int {
	t.Helper()
	m := d.metrics(t)
	n := m[`logship_syslog_discarded_total{reason="backlog"}`] + m[`logship_syslog_discarded_total{reason="kernel"}`]
	for _, reason := range []string{"backlog", "kernel", "incomplete"} {
		n += m[`logship_gelf_discarded_total{reason="`+reason+`"}`]
	}
	return int(n)
}

// hostPID returns logship's process ID as the host sees it.
func (d daemon) hostPID(t *testing.T) int {
	t.Helper()
	pid := d.Do(t, "systemctl", "show", "--property=MainPID", "--value", "logship.service")
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", d.Leader()))
	must(t, err)
	processes, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, dir := range processes {
		if link, err := os.Readlink(dir + "/ns/pid"); err != nil || link != space {
			continue
		}
		if ids := strings.Fields(statusField(dir, "NSpid")); len(ids) > 0 && ids[len(ids)-1] == pid {
			host, err := strconv.Atoi(filepath.Base(dir))
			must(t, err)
			return host
		}
	}
	t.Fatalf("process %s of the machine is not to be found", pid)
	return 0
}

// statusField returns a field of a process's status (proc_pid_status(5)), or "".
func statusField(dir, name string) string {
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return "" // it has ended
	}
	_, rest, _ := strings.Cut(string(status), "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

// peakMemory returns the most memory that logship has had, in bytes.
func (d daemon) peakMemory(t *testing.T) int64 {
	t.Helper()
	field := statusField(fmt.Sprintf("/proc/%d", d.hostPID(t)), "VmHWM")
	kib, err := strconv.ParseInt(strings.TrimSuffix(field, " kB"), 10, 64)
	must(t, err)
	return kib << 10
}

// arrivals are the messages that the receiver has written.
type arrivals struct {
	path    string
	offset  int64                     // of what was read
	numbers map[string]map[int]string // event IDs by stream and number: the first copy's
	ids     map[string]bool           // all event IDs
	again   map[string]int            // by stream: other messages with a number that was there
	copies  int                       // messages with an event ID that was there
	gaps    map[string]int            // entries that gap messages tell, by reason
	others  int                       // other messages
	bad     []string                  // what is not as it was sent
}

func newArrivals(m *machine.Machine) *arrivals {
	return &arrivals{path: m.Path(received), numbers: map[string]map[int]string{}, ids: map[string]bool{}, again: map[string]int{}, gaps: map[string]int{}}
}

// load reads what has come since the last time. A line that is not complete waits.
func (a *arrivals) load(t *testing.T) {
	t.Helper()
	f, err := os.Open(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	defer f.Close()
	_, err = f.Seek(a.offset, io.SeekStart)
	must(t, err)
	for lines := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		a.offset += int64(len(line))
		a.add(line)
	}
}

// maxFilling is how much of a filling is compared: parse.max_value cuts longer ones.
const maxFilling = 16 << 10

func (a *arrivals) add(line []byte) {
	var m struct {
		Stream  string `json:"_stream"`
		N       int    `json:"_n"`
		Filling string `json:"_filling"`
		ID      string `json:"_event_id"`
		Gap     string `json:"_gap_reason"`
		Entries int    `json:"_gap_entries"`
	}
	if err := json.Unmarshal(line, &m); err != nil {
		a.bad = append(a.bad, fmt.Sprintf("%.100q: %v", line, err))
		return
	}
	switch {
	case m.ID == "" || a.ids[m.ID]:
		a.copies++
		return
	case m.Gap != "":
		a.gaps[m.Gap] += m.Entries
	case m.Stream == "":
		a.others++
	case a.numbers[m.Stream] == nil:
		a.numbers[m.Stream] = map[int]string{m.N: m.ID}
	case a.numbers[m.Stream][m.N] != "":
		a.again[m.Stream]++
	default:
		a.numbers[m.Stream][m.N] = m.ID
	}
	a.ids[m.ID] = true
	if compared := m.Filling[:min(len(m.Filling), maxFilling)]; m.Stream != "" && compared != filling(m.N, len(compared)) {
		a.bad = append(a.bad, fmt.Sprintf("%s %d is not what was sent", m.Stream, m.N))
	}
}

// total returns how many different messages of streams have come.
func (a *arrivals) total() (n int) {
	for _, numbers := range a.numbers {
		n += len(numbers)
	}
	return n
}

// missing returns how many of the messages 1 to n of a stream have not come.
func (a *arrivals) missing(stream string, n int) (missing int) {
	for i := range n {
		if a.numbers[stream][i+1] == "" {
			missing++
		}
	}
	return missing
}

// await loads what comes until done is true.
func (d daemon) await(t *testing.T, done func() (ok bool, state string)) {
	t.Helper()
	d.Await(t, time.Minute, func() (bool, string) {
		d.load(t)
		return done()
	})
}

// awaitAll waits until everything that was sent has come, and checks that nothing
// else has: nothing twice but what its sender sent again.
func (d daemon) awaitAll(t *testing.T, accounts map[string]sent) {
	t.Helper()
	d.await(t, func() (bool, string) {
		missing, state := 0, ""
		for stream, a := range accounts {
			if n := d.missing(stream, a.Sent); n > 0 {
				missing += n
				state += fmt.Sprintf("%s: %d of %d are missing\n", stream, n, a.Sent)
			}
		}
		return missing == 0, state
	})
	d.check(t, accounts)
}

// figures logs what "make faults" prints, when all has been checked: what is missing of
// what logship had accepted would have failed the test.
func (d daemon) figures(t *testing.T, row int) {
	t.Helper()
	t.Logf("row %d: lost 0, duplicated %d", row, d.copies)
}

// check fails the test for what must never be.
func (d daemon) check(t *testing.T, accounts map[string]sent) {
	t.Helper()
	for stream, a := range accounts {
		if a.Error != "" || a.Refused > 0 {
			t.Errorf("%s: %d refused, %s", stream, a.Refused, a.Error)
		}
		if n := len(d.numbers[stream]); n > a.Sent {
			t.Errorf("%s: %d came of %d", stream, n, a.Sent)
		}
		if d.again[stream] > a.Again {
			t.Errorf("%s: %d came again, %d were sent again", stream, d.again[stream], a.Again)
		}
	}
	if d.copies > 0 && !d.killed {
		t.Errorf("%d messages came twice with one event ID", d.copies)
	}
	if len(d.bad) > 0 {
		t.Errorf("%d messages are wrong, the first: %s", len(d.bad), d.bad[0])
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
