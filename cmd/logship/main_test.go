package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sidecar/internal/journal/journaltest"
	"sidecar/internal/spool"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"logship": main})
}

// deadline is how long a script waits for anything: only a failure takes so long.
const deadline = 60 * time.Second

// TestScripts runs the verbs as an operator does. Besides the commands of
// testscript there are:
//
//	exit CODE logship ARG...    as exec, and want that exit code
//	start NAME logship ARG...   run beside the script, with a pipe as standard input, in the environment of its start
//	await NAME REGEXP [VAR]     wait until a line of its output or errors matches; the first group becomes VAR
//	write NAME TEXT             write a line to its standard input
//	eof NAME                    close its standard input
//	signal NAME INT|TERM|KILL   send a signal
//	ends NAME CODE              wait for its end; "signal" instead of a code means killed by one
//	unprivileged CODE logship ARG...  as exit, as the user nobody
//	stored DIR N                wait until N messages of a spool are not confirmed
//	send tcp|udp|http ADDR FILE send a file as a GELF client does (see cmdSend)
//	send unix|unixgram PATH FILE send a file as it is to a unix socket
//
// $JOURNAL is a directory with a small journal. $INPUT and $TLSINPUT are GELF inputs
// that confirm everything, $CA is the authority of the latter; $SILENT is one that
// never answers a half-close. Their messages are lines for await INPUT and so on.
func TestScripts(t *testing.T) {
	journalDir := ""
	if haveJournal() {
		journalDir = writeJournal(t)
	}
	testscript.Run(t, testscript.Params{
		Dir:      "testdata/script",
		Deadline: time.Now().Add(2 * deadline),
		Setup: func(env *testscript.Env) error {
			env.Setenv("JOURNAL", journalDir)
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // a race detector would wait for a second at each end
			processes := map[string]*process{}
			env.Values[processesKey{}] = processes
			err := startInputs(env, processes)
			env.Values[environmentKey{}] = env.Vars
			return err
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Getuid() == 0, nil
			case "journal":
				return haveJournal(), nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":         cmdExit,
			"unprivileged": cmdUnprivileged,
			"start":        cmdStart,
			"await":        cmdAwait,
			"write":        cmdWrite,
			"eof":          cmdEOF,
			"signal":       cmdSignal,
			"ends":         cmdEnds,
			"send":         cmdSend,
			"stored":       cmdStored,
			"generate":     cmdGenerate,
		},
	})
}

// haveJournal reports whether package journaltest can make journal files here.
func haveJournal() bool {
	_, err := os.Stat("/lib/systemd/systemd-journal-remote")
	return err == nil
}

// writeJournal makes a journal of five entries, one of them not from an application.
func writeJournal(t *testing.T) string {
	journaltest.Need(t)
	dir := t.TempDir()
	var export []byte
	for i := range 5 {
		message := fmt.Sprintf(`_jsonrc:{"level":"info","message":"order %d","n":%d}`, i, i)
		unit := "shop.service"
		if i == 3 {
			message, unit = "Started nginx.", "init.scope"
		}
		export = fmt.Appendf(export, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\n"+
			"_TRANSPORT=stdout\nPRIORITY=6\nSYSLOG_IDENTIFIER=node\n_HOSTNAME=web-01\n_PID=7\n_SYSTEMD_UNIT=%s\nMESSAGE=%s\n\n",
			1790000000000000+i, 5000+i, unit, message)
	}
	journaltest.Write(t, filepath.Join(dir, "system.journal"), journaltest.Default(), export)
	return dir
}

func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		wantStatus(ts, args[1:], "0", args[0])
	case errors.As(err, &exit):
		wantStatus(ts, args[1:], status(exit.ProcessState), args[0])
	default:
		ts.Fatalf("run %s: %v", args[1], err)
	}
}

// status returns the exit code, or "signal" for a process that was killed by one.
func status(s *os.ProcessState) string {
	if s.Sys().(syscall.WaitStatus).Signaled() {
		return "signal"
	}
	return strconv.Itoa(s.ExitCode())
}

func wantStatus(ts *testscript.TestScript, command []string, got, want string) {
	if got != want {
		ts.Fatalf("%s: ended with %s, want %s", strings.Join(command, " "), got, want)
	}
}

// cmdUnprivileged runs a command as the user nobody, who may enter the script's
// directory and run a copy of the test binary, and nothing more.
func cmdUnprivileged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "logship" {
		ts.Fatalf("usage: unprivileged CODE logship ARG...")
	}
	exe, err := os.Executable()
	ts.Check(err)
	work := ts.Getenv("WORK")
	bin := filepath.Join(work, "bin", "logship")
	if _, err := os.Stat(bin); err != nil {
		ts.Check(os.Mkdir(filepath.Dir(bin), 0o755))
		ts.Check(copyFile(bin, exe))
		for dir := work; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
			ts.Check(os.Chmod(dir, 0o711))
		}
	}
	run := append([]string{args[0], "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", bin}, args[2:]...)
	cmdExit(ts, false, run)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// process is one that start started.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	output *lines
	done   chan struct{} // closed when it has ended
}

type (
	environmentKey struct{}
	processesKey   struct{}
)

func processOf(ts *testscript.TestScript, args []string, usage string) *process {
	if len(args) == 0 {
		ts.Fatalf("usage: %s", usage)
	}
	p := ts.Value(processesKey{}).(map[string]*process)[args[0]]
	if p == nil {
		ts.Fatalf("no process %q was started", args[0])
	}
	return p
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME command...")
	}
	env := ts.Value(environmentKey{}).([]string)
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	p := &process{output: newLines(), done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, args[1], args[2:]...) // the test has our logship in its PATH, too
	p.cmd.Dir, p.cmd.Env = ts.MkAbs("."), env
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	go func() {
		p.cmd.Wait() // ends looks at how
		p.output.close()
		close(p.done)
	}()
	ts.Value(processesKey{}).(map[string]*process)[args[0]] = p
	ts.Defer(func() {
		cancel()
		<-p.done
	})
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "await NAME REGEXP [VAR]"
	p := processOf(ts, args, usage)
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: %s", usage)
	}
	match := p.output.await(regexp.MustCompile(args[1]))
	if match == nil {
		ts.Fatalf("%s ended, or %v went by, without a line like %q in its output:\n%s", args[0], deadline, args[1], p.output)
	}
	if len(args) == 3 {
		ts.Setenv(args[2], match[1])
	}
}

func cmdWrite(ts *testscript.TestScript, neg bool, args []string) {
	p := processOf(ts, args, "write NAME TEXT")
	_, err := fmt.Fprintln(p.stdin, args[1])
	ts.Check(err)
}

func cmdEOF(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(processOf(ts, args, "eof NAME").stdin.Close())
}

func cmdStored(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: stored DIR N")
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); ; <-tick.C {
		r, err := spool.Inspect(ts.MkAbs(args[0]), nil)
		if err == nil && strconv.FormatUint(r.Waiting, 10) == args[1] {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%+v, %v", r, err)
		}
	}
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	p := processOf(ts, args, "signal NAME INT|TERM|KILL")
	signals := map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	ts.Check(p.cmd.Process.Signal(signals[args[1]]))
}

func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	p := processOf(ts, args, "ends NAME CODE")
	<-p.done
	fmt.Fprint(ts.Stdout(), p.output)
	wantStatus(ts, p.cmd.Args, status(p.cmd.ProcessState), args[1])
}

// cmdGenerate writes a file that is too large or too strange for a script.
func cmdGenerate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: generate KIND FILE")
	}
	var b bytes.Buffer
	switch args[0] {
	case "lines": // 100,000 of them
		for i := range 100_000 {
			fmt.Fprintf(&b, "_jsonrc:{\"level\":\"info\",\"message\":\"order %d\",\"n\":%d}\n", i, i)
		}
	case "huge": // three lines, the second of 10 MB
		fmt.Fprintf(&b, "before\n_jsonrc:{\"level\":\"info\",\"message\":%q}\nafter\n", strings.Repeat("x", 10<<20))
	case "bytes": // invalid UTF-8, NUL, CRLF, blank lines, no line end at the end
		b.WriteString("caf\xe9\nnul\x00byte\ncrlf\r\n\n  \t\n\r\nlast")
	default:
		ts.Fatalf("generate: unknown kind %q", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o644))
}

// lines collects the output of a process and lets others wait for a line.
type lines struct {
	mu      sync.Mutex
	changed *sync.Cond
	text    []byte // guarded by mu
	closed  bool   // guarded by mu
}

func newLines() *lines {
	l := new(lines)
	l.changed = sync.NewCond(&l.mu)
	return l
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	l.changed.Broadcast()
	return len(b), nil
}

func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Broadcast()
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// await returns the match in the first whole line that has one, nil if there will
// be none.
func (l *lines) await(re *regexp.Regexp) []string {
	expired := false
	timer := time.AfterFunc(deadline, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		expired = true
		l.changed.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		whole := l.text[:bytes.LastIndexByte(l.text, '\n')+1]
		for line := range bytes.Lines(whole) {
			if m := re.FindStringSubmatch(strings.TrimSuffix(string(line), "\n")); m != nil {
				return m
			}
		}
		if l.closed || expired {
			return nil
		}
		l.changed.Wait()
	}
}
