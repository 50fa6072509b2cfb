package faults

import (
	"context"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen.
const patience = 40 * time.Second

// process is a program that runs, with what it says.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; after done

	mu      sync.Mutex
	text    []byte        // guarded by mu: what it has written
	changed chan struct{} // guarded by mu: closed at the next write
}

// begin starts a program that ends with the test at the latest.
func begin(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	must(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		p.signal(syscall.SIGCONT) // one that is stopped by a tracer too
		<-p.done
		if t.Failed() {
			t.Logf("%s %s said:\n%s", name, args[0], p.tail())
		}
	})
	return p
}

// Write implements io.Writer.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = append(p.text, b...)
	close(p.changed)
	p.changed = make(chan struct{})
	return len(b), nil
}

// tail returns the end of what p has said.
func (p *process) tail() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text[max(0, len(p.text)-4000):]
}

// said waits until p has said what the pattern describes.
func (p *process) said(t *testing.T, pattern string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for want := regexp.MustCompile(pattern); ; {
		p.mu.Lock()
		found, changed := want.Match(p.text), p.changed
		p.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-p.done:
			t.Fatalf("ended (%v) without having said %q", p.err, pattern)
		case <-ctx.Done():
			t.Fatalf("has not said %q", pattern)
		}
	}
}

// signal sends a signal to p, unless it has ended.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends p without a warning.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop ends p in an orderly way, and fails the test if it is not one.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if p.err != nil {
			t.Errorf("stop: %v", p.err)
		}
	case <-time.After(patience):
		t.Fatal("does not stop")
	}
}
