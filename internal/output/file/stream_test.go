package file_test

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"sidecar/internal/output"
	"sidecar/internal/output/file"
)

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// The reader decides how fast: Send waits for it, and everything comes.
func TestStreamWaitsForItsReader(t *testing.T) {
	r, w := pipe(t)
	out := file.NewStream(w)
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	const n = 20_000 // more than a pipe holds
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		defer w.Close()
		for i := 0; i < n; i += 1000 {
			if err := out.Send(context.Background(), []byte(join(i, i+1000, "\x00"))); err != nil {
				t.Error(err)
			}
		}
	}()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	<-sent
	if string(b) != join(0, n, "\n") {
		t.Errorf("%d bytes came, want %d", len(b), len(join(0, n, "\n")))
	}
	cut(t, out, 3)
}

// A Send that was given up leaves no torn line: the next one completes it, however
// often there is no room.
func TestStreamCompletesTheLineThatWasTorn(t *testing.T) {
	r, w := pipe(t)
	out := file.NewStream(w)
	const n = 3000
	stop, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- out.Send(stop, []byte(join(0, n, "\x00"))) }()
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	out.Abort()
	if err := out.Send(stop, []byte(join(0, 1, "\x00"))); !errors.Is(err, context.Canceled) { // writes nothing
		t.Fatalf("got %v", err)
	}
	go func() {
		failed <- out.Send(context.Background(), []byte(join(n, n+10, "\x00")))
		w.Close()
	}()
	rest, err := io.ReadAll(r)
	if err := errors.Join(err, <-failed); err != nil {
		t.Fatal(err)
	}
	got, end := string(head)+string(rest), join(n, n+10, "\n")
	lines := got[:max(0, len(got)-len(end))]
	if len(lines) < 1000 || lines[len(lines)-1] != '\n' || lines != join(0, n, "\n")[:len(lines)] || got[len(lines):] != end {
		t.Errorf("%d bytes came that end in %q", len(got), got[max(0, len(got)-1000):])
	}
}

func TestStreamWithoutAReaderIsGone(t *testing.T) {
	r, w := pipe(t)
	out := file.NewStream(w)
	send(t, out, 0, 1)
	r.Close()
	if err := out.Send(within(t), []byte("x\x00")); !errors.Is(err, output.ErrGone) || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v", err)
	}
}

func TestStreamOnAFullDiskFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := file.NewStream(full).Send(within(t), []byte("x\x00")); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, output.ErrGone) {
		t.Errorf("got %v", err)
	}
}
