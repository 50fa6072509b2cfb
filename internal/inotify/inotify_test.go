package inotify

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is an Event that may be kept.
type seen struct {
	watch int32
	mask  uint32
	name  string
}

// start runs a Watcher and returns it with what it tells, until the test ends.
func start(t *testing.T) (*Watcher, <-chan seen) {
	t.Helper()
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan seen, 100) // more than any test makes: note never waits
	ended := make(chan error, 1)
	go func() {
		ended <- w.Run(func(events []Event) {
			for _, e := range events {
				all <- seen{e.Watch, e.Mask, string(e.Name)}
			}
		})
	}()
	t.Cleanup(func() {
		for range 2 {
			if err := w.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if _, err := w.Add(t.TempDir(), unix.IN_CREATE); err == nil {
			t.Error("a closed watcher takes a directory")
		}
	})
	return w, all
}

func want(t *testing.T, all <-chan seen, want seen) {
	t.Helper()
	select {
	case got := <-all:
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing tells of %+v", want)
	}
}

func TestRun(t *testing.T) {
	w, all := start(t)
	var watches []int32
	dirs := []string{t.TempDir(), t.TempDir()}
	for _, dir := range dirs {
		watch, err := w.Add(dir, unix.IN_CREATE|unix.IN_DELETE_SELF)
		if err != nil {
			t.Fatal(err)
		}
		watches = append(watches, watch)
	}
	if again, err := w.Add(dirs[0], unix.IN_MOVED_FROM|unix.IN_MASK_ADD); err != nil || again != watches[0] {
		t.Fatalf("watch %d is %d when it is added again, err %v", watches[0], again, err)
	}
	// Sizes of names are rounded up to 16 bytes; 255 is NAME_MAX.
	for _, n := range []int{1, 14, 15, 16, 17, 255} {
		name := strings.Repeat("x", n)
		if err := os.Mkdir(filepath.Join(dirs[0], name), 0o700); err != nil {
			t.Fatal(err)
		}
		want(t, all, seen{watches[0], unix.IN_CREATE | unix.IN_ISDIR, name})
	}
	if err := os.Rename(filepath.Join(dirs[0], "x"), filepath.Join(dirs[1], "y")); err != nil {
		t.Fatal(err)
	}
	want(t, all, seen{watches[0], unix.IN_MOVED_FROM | unix.IN_ISDIR, "x"})
	if err := os.RemoveAll(dirs[1]); err != nil {
		t.Fatal(err)
	}
	want(t, all, seen{watches[1], unix.IN_DELETE_SELF, ""})
	want(t, all, seen{watches[1], unix.IN_IGNORED, ""})
}

func TestAddRefuses(t *testing.T) {
	w, _ := start(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(file, unix.IN_MODIFY); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	if _, err := w.Add(file+"-not", unix.IN_MODIFY); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

// TestAppendEvents: what is cut off anywhere costs no event before it.
func TestAppendEvents(t *testing.T) {
	var b []byte
	var ends []int
	add := func(watch int32, mask uint32, name string) {
		for _, v := range []uint32{uint32(watch), mask, 7, uint32(len(name))} {
			b = binary.NativeEndian.AppendUint32(b, v)
		}
		b = append(b, name...)
		ends = append(ends, len(b))
	}
	add(1, unix.IN_MODIFY, "a\x00\x00\x00")
	add(-1, unix.IN_Q_OVERFLOW, "")
	add(1<<31-1, unix.IN_CREATE|unix.IN_ISDIR, "name\x00\x00")
	wants := []seen{{1, unix.IN_MODIFY, "a"}, {-1, unix.IN_Q_OVERFLOW, ""}, {1<<31 - 1, unix.IN_CREATE | unix.IN_ISDIR, "name"}}
	for n := range len(b) + 1 {
		whole := 0
		for whole < len(ends) && ends[whole] <= n {
			whole++
		}
		var got []seen
		for _, e := range appendEvents(nil, b[:n]) {
			got = append(got, seen{e.Watch, e.Mask, string(e.Name)})
		}
		if len(got) < whole || !slices.Equal(got[:whole], wants[:whole]) {
			t.Errorf("of %d bytes: got %+v, want %+v", n, got, wants[:whole])
		}
	}
}
