// Package winston_test checks the Winston service that the demo and the
// end-to-end tests log with.
package winston_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidecar/test/machine"
)

const prefix = "_jsonrc:"

// line is what every line of the service has.
type line struct {
	Level     string    `json:"level"`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
	Stream    string    `json:"stream"`
	N         int       `json:"n"`
	Stack     string    `json:"stack"`
}

// shop returns a command that runs the service with args, which ends with the
// test. Without Node or the packages the test is skipped, or fails in CI.
func shop(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join("node_modules", "winston"))
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no Winston service (test/setup/npm.sh makes it): %v", err)
		}
		t.Skipf("no Winston service (test/setup/npm.sh makes it): %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"server.js"}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts cmd and returns its standard output.
func start(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(stdout)
}

// decode returns what text says; ok is false for a plain line.
func decode(t *testing.T, text []byte) (l line, ok bool) {
	t.Helper()
	document, ok := bytes.CutPrefix(text, []byte(prefix))
	if !ok {
		return line{}, false
	}
	if err := json.Unmarshal(document, &l); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if l.Level == "" || l.Message == "" || l.Timestamp.IsZero() || l.Stream == "" || l.N == 0 {
		t.Fatalf("%q: a field is missing", text)
	}
	return l, true
}

func TestCountedLinesArriveWholeAndInOrder(t *testing.T) {
	const count = 20_000 // some MB: many times what a pipe holds
	cmd := shop(t, "--count", fmt.Sprint(count), "--stream", "books")
	stdout := start(t, cmd)
	for n := 1; n <= count; n++ {
		text, err := stdout.ReadBytes('\n')
		if err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		l, ok := decode(t, text)
		if !ok || l.N != n || l.Stream != "books" || l.Level != "info" {
			t.Fatalf("line %d: %q", n, text)
		}
	}
	if rest, err := io.ReadAll(stdout); err != nil || len(rest) > 0 {
		t.Errorf("after the last line: %q, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// journald's end of a unit's standard output is a socket, not a pipe.
func TestUnitLosesNoLine(t *testing.T) {
	const count = 20_000
	shop(t) // skips or fails if there is none
	m := machine.Boot(t, machine.Options{JournaldConf: "[Journal]\nRateLimitBurst=0\n"})
	if err := m.CopyTree(t.Context(), ".", "/opt/shop"); err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"systemd-run", "--wait", "--unit=shop", node, "/opt/shop/server.js", "--count", fmt.Sprint(count)},
		{"journalctl", "--sync"},
	} {
		if _, _, err := m.Run(t.Context(), args[0], args[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	out, _, err := m.Run(t.Context(), "journalctl", "-u", "shop", "-o", "cat", "_TRANSPORT=stdout")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for text := range strings.Lines(out) {
		if l, ok := decode(t, []byte(text)); !ok || l.N != n+1 {
			t.Fatalf("line %d: %q", n+1, text)
		}
		n++
	}
	if n != count {
		t.Errorf("%d lines in the journal, want %d", n, count)
	}
}

func TestOptionsFromEnvironment(t *testing.T) {
	cmd := shop(t)
	cmd.Env = append(os.Environ(), "SHOP_COUNT=2", "SHOP_STREAM=env")
	out, err := cmd.Output()
	if err != nil || strings.Count(string(out), "\n") != 2 || strings.Count(string(out), `"stream":"env"`) != 2 {
		t.Errorf("%q, %v", out, err)
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for _, args := range [][]string{{}, {"--count", "many"}, {"--rate", "0"}, {"--nonsense"}} {
		cmd := shop(t, args...)
		cmd.Stderr = nil
		if out, err := cmd.Output(); cmd.ProcessState.ExitCode() != 2 || len(out) > 0 {
			t.Errorf("%q: %q, %v", args, out, err)
		}
	}
}

func TestTermEndsAtALine(t *testing.T) {
	for _, args := range [][]string{{"--rate", "500"}, {"--count", "1000000000"}, {"--demo"}} {
		t.Run(args[0], func(t *testing.T) {
			cmd := shop(t, args...)
			stdout := start(t, cmd)
			if _, err := stdout.ReadBytes('\n'); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(stdout)
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("stopped with %v", err)
			}
			if len(rest) > 0 && rest[len(rest)-1] != '\n' {
				t.Errorf("ends inside a line: %q", rest[max(0, len(rest)-100):])
			}
			n := 1
			for text := range bytes.Lines(rest) {
				if l, ok := decode(t, text); ok {
					if n++; l.N != n {
						t.Fatalf("line %d: %q", n, text)
					}
				}
			}
		})
	}
}

func TestDemoIsVaried(t *testing.T) {
	cmd := shop(t, "--demo", "--rate", "10000")
	cmd.Stderr = nil // the trace of an error is one of its events
	stdout := start(t, cmd)
	missing := map[string]bool{"info": true, "http": true, "warn": true, "error": true, "debug": true, "stack": true, "lines": true, "plain": true}
	for range 5000 { // of 100 events 4 are plain and 5 have a stack
		text, err := stdout.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		l, ok := decode(t, text)
		if !ok {
			delete(missing, "plain")
			continue
		}
		delete(missing, l.Level)
		if strings.Contains(l.Stack, "\n    at ") {
			delete(missing, "stack")
		}
		if strings.Contains(l.Message, "\n") {
			delete(missing, "lines")
		}
		if len(missing) == 0 {
			break
		}
	}
	for kind := range missing {
		t.Errorf("no %s event in 5000 lines", kind)
	}
}
