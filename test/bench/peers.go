package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sidecar/internal/parse/parsetest"
)

// The peers are Debian's rsyslog and syslog-ng, as test/setup/senders.sh unpacks
// them, with configurations that do the job of logship as well as they can: take
// lines in, strip the prefix, parse the JSON, send GELF with NUL behind each
// message. What they cannot do is left out (levels by name, secrets, types, the
// confirmation of what was sent; and rsyslog's disk queue is not synced, which
// made it ten times slower), so the comparison is in their favour.
const peersDir = ".cache/senders"

// job is one way through a shipper, which every contender is measured on.
type job struct {
	title   string
	durable bool // what was taken in survives the process
	journal bool // from journal files, else from syslog over TCP
}

// shipper runs a program that takes syslog in on a free port, or reads the journal,
// and sends GELF to sink.
type shipper struct {
	name string
	// start returns the command that is to be started; dir is its own, in is the address to listen on, empty for the journal.
	start func(j job, dir, in, sink string) (*exec.Cmd, error)
}

func peers() []shipper {
	return []shipper{{"logship", startLogship}, {"copy only: read, cut, write", startCopy}, {"rsyslog", startRsyslog}, {"syslog-ng", startSyslogNG}}
}

// benchPeers prints a table for each job.
func benchPeers(dir string, messages, rounds int, lines [][]byte) error {
	for _, program := range []string{"rsyslogd", "syslog-ng"} {
		if _, err := os.Stat(filepath.Join(peersDir, "usr/sbin", program)); err != nil {
			return fmt.Errorf("%w (test/setup/senders.sh brings it)", err)
		}
	}
	if _, err := writeJournal(filepath.Join(dir, "journal"), messages, lines); err != nil {
		return err
	}
	for _, j := range []job{
		{title: "syslog TCP -> GELF TCP, no disk"},
		{title: "syslog TCP -> GELF TCP, durable queue", durable: true},
		{title: "journal -> GELF TCP", journal: true},
		{title: "journal -> GELF TCP, durable queue", journal: true, durable: true},
	} {
		var all []contender
		for _, s := range peers() {
			if j.journal && s.name == "copy only: read, cut, write" {
				continue
			}
			all = append(all, contender{s.name, func() (sample, error) { return runPeer(s, j, dir, messages, lines) }})
		}
		fmt.Printf("\n%s, %d messages\n\n", j.title, messages)
		if err := compare(all, messages, rounds); err != nil {
			return err
		}
	}
	return benchLatency(dir)
}

// runPeer sends or has read the messages, and waits until all have come.
func runPeer(s shipper, j job, dir string, messages int, lines [][]byte) (sample, error) {
	p, err := launch(s, j, dir)
	if err != nil {
		return sample{}, err
	}
	enough := make(chan struct{})
	go count(p.sink, int64(messages), enough)
	start := time.Now()
	if !j.journal {
		if err := p.send(messages, lines); err != nil {
			return sample{}, errors.Join(err, p.stop())
		}
	}
	select {
	case <-enough:
	case err := <-p.ended:
		return sample{}, fmt.Errorf("it ended: %w: %s", err, p.output.String())
	case <-time.After(3 * time.Minute):
		return sample{}, errors.Join(errors.New("not all messages came"), p.stop())
	}
	wall := time.Since(start)
	if err := p.stop(); err != nil {
		return sample{}, err
	}
	return usage(p.cmd, wall, p.rss()), nil
}

// running is a shipper between its start and its end.
type running struct {
	cmd    *exec.Cmd
	dir    string // of its own
	in     string // address for syslog
	sink   net.Listener
	rss    func() int64
	ended  chan error
	output *lockedBuffer
}

// launch starts a shipper and waits until it takes syslog in.
func launch(s shipper, j job, dir string) (*running, error) {
	if !j.durable && !j.journal {
		dir = memoryDir
	}
	own, err := os.MkdirTemp(dir, "logship-bench-")
	if err != nil {
		return nil, err
	}
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	in := ""
	if !j.journal {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		in = l.Addr().String()
		l.Close()
	}
	p := &running{dir: own, in: in, sink: sink, ended: make(chan error, 1), output: new(lockedBuffer)}
	if p.cmd, err = s.start(j, own, in, sink.Addr().String()); err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.rss = watchPeak(p.cmd.Process.Pid)
	go func() { p.ended <- p.cmd.Wait() }()
	if j.journal {
		return p, nil
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", in)
		if err == nil {
			c.Close()
			return p, nil
		}
		select {
		case err := <-p.ended:
			return nil, fmt.Errorf("it ended: %w: %s", err, p.output.String())
		default:
		}
		if time.Now().After(until) {
			return nil, errors.Join(err, p.stop())
		}
	}
}

// stop ends the shipper as systemd would.
func (p *running) stop() error {
	defer os.RemoveAll(p.dir)
	defer p.sink.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil // rsyslog and the copy end by the signal
	case <-time.After(time.Minute):
		p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("it does not end: %s", p.output.String())
	}
}

// send writes syslog messages (RFC 3164, newline framing) as a relay does.
func (p *running) send(messages int, lines [][]byte) error {
	c, err := net.Dial("tcp", p.in)
	if err != nil {
		return err
	}
	defer c.Close()
	var b []byte
	for i := range messages {
		b = appendSyslog(b, lines[i%len(lines)])
		if len(b) > 64<<10 || i == messages-1 {
			if _, err := c.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	return nil
}

func startLogship(j job, dir, in, sink string) (*exec.Cmd, error) {
	config := fmt.Sprintf("output.url = \"gelf+tcp://%s\"\nstate.dir = %q\nmetrics.listen = \"\"\nlog.level = \"warn\"\nparse.multiline = false\n",
		sink, filepath.Join(dir, "state"))
	if j.journal {
		config += fmt.Sprintf("[input.journald]\ndirectory = %q\nstart = \"head\"\n", filepath.Join(filepath.Dir(dir), "journal"))
	} else {
		config += fmt.Sprintf("[input]\njournald.enabled = false\n[[input.syslog]]\nlisten = \"tcp://%s\"\n", in)
	}
	path := filepath.Join(dir, "logship.toml")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return exec.Command("bin/logship", "run", "--config", path), nil
}

// startCopy starts this program as what only copies: the floor.
func startCopy(_ job, _, in, sink string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(self, "-copy", in, sink), nil
}

// copyLines takes connections on in and writes what is behind the header of each
// line to sink, with NUL behind it.
func copyLines(in, sink string) error {
	l, err := net.Listen("tcp", in)
	if err != nil {
		return err
	}
	out, err := net.Dial("tcp", sink)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if err := cutLines(c, out); err != nil {
			return err
		}
		c.Close()
	}
}

func cutLines(r io.Reader, w io.Writer) error {
	buf, out := make([]byte, 0, 256<<10), make([]byte, 0, 256<<10)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		rest := buf[:len(buf)+n]
		out = out[:0]
		for {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			_, text, _ := bytes.Cut(rest[:i], []byte("]: "))
			out = append(append(out, text...), 0)
			rest = rest[i+1:]
		}
		buf = buf[:copy(buf[:cap(buf)], rest)]
		if _, err := w.Write(out); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fieldNames are the members of the documents that most lines of the corpus have:
// rsyslog's template has to name each.
func fieldNames(lines [][]byte) []string {
	counts := map[string]int{}
	for _, line := range lines[:min(len(lines), 20_000)] {
		var doc map[string]json.RawMessage
		if json.Unmarshal(bytes.TrimPrefix(line, []byte("_jsonrc:")), &doc) == nil {
			for name := range doc {
				counts[name]++
			}
		}
	}
	var names []string
	for name, n := range counts {
		if n > 20 && name != "message" && name != "level" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// inPeers returns a command of the unpacked packages; with a journal in the place
// of the machine's, in a mount namespace of its own.
func inPeers(j job, dir string, program string, args ...string) *exec.Cmd {
	root, _ := filepath.Abs(peersDir)
	command := append([]string{filepath.Join(root, "usr/sbin", program)}, args...)
	if j.journal {
		script := `set -e; mount -t tmpfs none /var/log; mount -t tmpfs none /run; id=$(cat /etc/machine-id); mkdir -p /var/log/journal/$id; ` +
			`mount --bind "$0" /var/log/journal/$id; exec "$@"`
		command = append([]string{"unshare", "--mount", "sh", "-c", script, filepath.Join(filepath.Dir(dir), "journal")}, command...)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join([]string{filepath.Join(root, "usr/lib/x86_64-linux-gnu"), filepath.Join(root, "usr/lib/syslog-ng"), filepath.Join(root, "usr/lib")}, ":"))
	return cmd
}

func startRsyslog(j job, dir, in, sink string) (*exec.Cmd, error) {
	root, err := filepath.Abs(peersDir)
	if err != nil {
		return nil, err
	}
	var c strings.Builder
	fmt.Fprintf(&c, "global(workDirectory=%q maxMessageSize=\"64k\")\nmodule(load=\"mmjsonparse\")\n", dir)
	if j.journal {
		c.WriteString("module(load=\"imjournal\" StateFile=\"state\" IgnorePreviousMessages=\"off\" Ratelimit.Interval=\"0\")\n")
	} else {
		host, port, _ := net.SplitHostPort(in)
		fmt.Fprintf(&c, "module(load=\"imptcp\" threads=\"2\")\ninput(type=\"imptcp\" address=%q port=%q)\n", host, port)
	}
	c.WriteString(`template(name="gelf" type="list" option.jsonf="on") {
  constant(outname="version" value="1.1" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="short_message" name="$!message" format="jsonf")
  property(outname="timestamp" name="timereported" dateFormat="unixtimestamp" format="jsonf" datatype="number")
  property(outname="level" name="syslogseverity" format="jsonf" datatype="number")
  property(outname="_level_name" name="$!level" format="jsonf" onEmpty="skip")
`)
	for _, name := range fieldNames(parsetest.BenchLines()) {
		fmt.Fprintf(&c, "  property(outname=\"_%s\" name=\"$!%s\" format=\"jsonf\" onEmpty=\"skip\")\n", name, name)
	}
	host, port, _ := net.SplitHostPort(sink)
	queue := `queue.type="LinkedList" queue.size="100000"`
	if j.durable {
		queue = fmt.Sprintf(`queue.type="Disk" queue.filename="q" queue.maxFileSize="64m" queue.checkpointInterval="1000" queue.spoolDirectory=%q`, dir)
	}
	fmt.Fprintf(&c, "}\naction(type=\"mmjsonparse\" cookie=\"_jsonrc:\")\naction(type=\"omfwd\" target=%q port=%q protocol=\"tcp\" TCP_FrameDelimiter=\"0\" template=\"gelf\" action.resumeRetryCount=\"-1\" queue.timeoutEnqueue=\"600000\" %s)\n", host, port, queue)
	path := filepath.Join(dir, "rsyslog.conf")
	if err := os.WriteFile(path, []byte(c.String()), 0o644); err != nil {
		return nil, err
	}
	return inPeers(j, dir, "rsyslogd", "-n", "-f", path, "-i", filepath.Join(dir, "pid"), "-M", filepath.Join(root, "usr/lib/x86_64-linux-gnu/rsyslog")), nil
}

func startSyslogNG(j job, dir, in, sink string) (*exec.Cmd, error) {
	root, err := filepath.Abs(peersDir)
	if err != nil {
		return nil, err
	}
	source := "systemd-journal(read-old-records(yes) prefix(\".journald.\") log-fetch-limit(1000));"
	if !j.journal {
		host, port, _ := net.SplitHostPort(in)
		source = fmt.Sprintf("network(transport(\"tcp\") ip(%s) port(%s) log-iw-size(100000) log-fetch-limit(1000) flags(no-multi-line));", host, port)
	}
	queue := "log-fifo-size(200000)"
	if j.durable {
		queue = fmt.Sprintf("disk-buffer(reliable(yes) disk-buf-size(4294967296) mem-buf-size(33554432) dir(%q))", dir)
	}
	host, port, _ := net.SplitHostPort(sink)
	config := fmt.Sprintf(`@version: 3.38
options { keep-hostname(yes); log-msg-size(65536); stats-freq(0); };
source s { %s };
parser p { json-parser(prefix(".json.") marker("_jsonrc:")); };
destination d { network("%s" port(%s) transport("tcp") flush-lines(100) %s
  template("$(format-json version='1.1' host='${HOST}' short_message='${.json.message}' timestamp=${R_UNIXTIME} level=int(${LEVEL_NUM}) --rekey .json.* --shift-levels 2 --add-prefix _ --key .json.*)$(binary 0x00)")); };
log { source(s); if { parser(p); } else { rewrite { set("${MESSAGE}" value(".json.message")); }; }; destination(d); flags(flow-control); };
`, source, host, port, queue)
	path := filepath.Join(dir, "syslog-ng.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	modules, err := filepath.Glob(filepath.Join(root, "usr/lib/syslog-ng/*/"))
	if err != nil || len(modules) == 0 {
		return nil, errors.Join(err, errors.New("syslog-ng has no modules"))
	}
	return inPeers(j, dir, "syslog-ng", "-F", "--no-caps", "-f", path, "--module-path", modules[0],
		"-R", filepath.Join(dir, "persist"), "-c", filepath.Join(dir, "ctl"), "-p", filepath.Join(dir, "pid")), nil
}

// lockedBuffer keeps the start of what a program prints.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() < 4096 {
		l.b.Write(b)
	}
	return len(b), nil
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
