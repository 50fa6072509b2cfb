package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sidecar/internal/record"
)

// The tests named TestRow are rows of the fault matrix; each says what it injects and
// what must hold: nothing acknowledged is lost but what a row allows, nothing unissued
// is delivered, payloads are equal, and a new message passes afterwards.

func openTest(t *testing.T, d disk, dir string, o Options) *Spool {
	t.Helper()
	s, err := open(d, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// put appends the messages first to last, in batches of n.
func put(t *testing.T, s *Spool, first, last, n int) {
	t.Helper()
	for ; first <= last; first += n {
		var msgs []Message
		for i := first; i <= min(last, first+n-1); i++ {
			msgs = append(msgs, Message{Text: numbered(uint64(i))})
		}
		if err := s.Append(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
	}
}

// drain returns the numbers of the messages that src has, in their order.
func drain(t *testing.T, src *Source) (numbers []int) {
	t.Helper()
	var e record.Entry
	for {
		ok, err := src.Next(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return numbers
		}
		n := numberOf(e.Message)
		if n < 0 {
			t.Fatalf("delivered %q, which was never appended", e.Message)
		}
		numbers = append(numbers, n)
	}
}

// numberOf returns the number of a message of numbered, or -1.
func numberOf(text []byte) int {
	if len(text) < 8 {
		return -1
	}
	n := int(text[6])<<8 | int(text[7])
	if !bytes.Equal(text, numbered(uint64(n))) {
		return -1
	}
	return n
}

func numbers(first, last int) (all []int) {
	for i := first; i <= last; i++ {
		all = append(all, i)
	}
	return all
}

// passes checks that a new message is delivered.
func passes(t *testing.T, s *Spool, src *Source) {
	t.Helper()
	put(t, s, 60_000, 60_000, 1)
	if got := drain(t, src); !slices.Equal(got, []int{60_000}) {
		t.Errorf("a new message: got %v", got)
	}
}

// Row 4: a segment that ends anywhere. What is whole in front of the end is delivered,
// nothing else; the spool is open at once.
func TestRow04TornWrite(t *testing.T) {
	mem := newMemDisk(nil)
	s := openTest(t, mem, "/spool", Options{})
	put(t, s, 1, 8, 1)
	abandon(s)
	files := mem.dir["/spool"].live
	whole := files[segmentName(1)].live
	frame := (len(whole) - headerBytes) / 8
	for size := range len(whole) {
		mem := memDiskWith(map[string][]byte{segmentName(1): whole[:size], cursorName: files[cursorName].live})
		s := openTest(t, mem, "/spool", Options{})
		src := s.NewSource("spool", nil)
		n := max(0, size-headerBytes) / frame
		if got := drain(t, src); !slices.Equal(got, numbers(1, n)) {
			t.Fatalf("cut to %d bytes: got %v, want 1 to %d", size, got, n)
		}
		passes(t, s, src)
		if lost := s.Stats().Lost; lost != 0 {
			t.Fatalf("cut to %d bytes: %d counted as lost", size, lost)
		}
		s.Close()
	}
}

// memDiskWith returns a disk with these files in /spool.
func memDiskWith(files map[string][]byte) *memDisk {
	d, dir := newMemDisk(nil), newMemDir()
	d.dir["/spool"], d.dir["/"].live["spool"] = dir, nil
	for name, content := range files {
		dir.live[name] = &memFile{live: slices.Clone(content)}
	}
	return d
}

// Row 4: writes that the system cuts short, by a limit on the size of files. The
// messages are stored in other segments.
func TestRow04ShortWrite(t *testing.T) {
	dir := t.TempDir()
	failures := 0
	d := buggyDisk{disk: osDisk{}, file: func(f file, name string) file {
		return limitedFile{f, 20_000, &failures}
	}}
	s := openTest(t, d, dir, Options{retryAfter: 1})
	put(t, s, 1, 1000, 25)
	src := s.NewSource("spool", nil)
	if got := drain(t, src); !slices.Equal(got, numbers(1, 1000)) {
		t.Errorf("got %d messages", len(got))
	}
	if failures < 10 || s.Stats().Trouble != nil || s.Stats().Lost > 0 {
		t.Errorf("%d short writes, %+v", failures, s.Stats())
	}
	abandon(s)
	src.Close()
	s = openTest(t, osDisk{}, dir, Options{})
	src = s.NewSource("spool", nil)
	defer src.Close()
	if got := drain(t, src); !slices.Equal(got, numbers(1, 1000)) {
		t.Errorf("after a restart: got %d messages", len(got))
	}
	passes(t, s, src)
}

// limitedFile is one under RLIMIT_FSIZE: a write over the limit is cut, one that begins
// there fails (setrlimit(2)).
type limitedFile struct {
	file
	limit    int64
	failures *int
}

func (f limitedFile) WriteAt(b []byte, off int64) (int, error) {
	n := max(0, min(int64(len(b)), f.limit-off))
	if _, err := f.file.WriteAt(b[:n], off); err != nil || n == int64(len(b)) {
		return int(n), err
	}
	*f.failures++
	return int(n), syscall.EFBIG
}

// abandon is what a kill leaves: nothing is stored or saved any more.
func abandon(s *Spool) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.lock.Close()
	s.cursor.close()
	if s.active != nil {
		s.active.file.Close()
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Row 5: bits and blocks that rot, anywhere in a spool of several segments that was
// closed or killed. Only the damaged messages are missing, and they are counted.
func TestRow05BitRot(t *testing.T) {
	const messages = 100
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprintf("closed %v", closed), func(t *testing.T) {
			mem := newMemDisk(nil)
			s := openTest(t, mem, "/spool", Options{MaxBytes: 1 << 30, segmentBytes: 8000})
			put(t, s, 1, messages, 3)
			if closed {
				s.Close()
			} else {
				abandon(s)
			}
			files := map[string][]byte{}
			for name, f := range mem.dir["/spool"].live {
				files[name] = f.live
			}
			names := slices.Sorted(maps.Keys(files))
			rng := rand.New(rand.NewPCG(5, 5))
			for i := range 800 {
				disk, rotten := memDiskWith(files), names[rng.IntN(len(names))]
				rot(rng, disk.dir["/spool"].live[rotten].live, i%4 == 3)
				checkRot(t, disk, rotten, messages, closed)
			}
		})
	}
}

// rot flips a bit, or overwrites 512 bytes.
func rot(rng *rand.Rand, b []byte, block bool) {
	at := rng.IntN(len(b))
	if !block {
		b[at] ^= 1 << rng.IntN(8)
		return
	}
	for i := at; i < min(len(b), at+512); i++ {
		b[i] = byte(rng.Uint32())
	}
}

func checkRot(t *testing.T, d disk, rotten string, messages int, closed bool) {
	t.Helper()
	s := openTest(t, d, "/spool", Options{})
	src := s.NewSource("spool", nil)
	got := drain(t, src)
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("%s: out of order: %v", rotten, got)
	}
	missing, st := messages-len(got), s.Stats()
	if missing > 3 {
		t.Errorf("%s: %d messages missing", rotten, missing)
	}
	// In the last batch of a spool that was killed, damage looks like a torn write.
	uncertain := 0
	for n := messages; n > messages-3 && !closed; n-- {
		if !slices.Contains(got, n) {
			uncertain++
		}
	}
	if lost := int(st.Lost); lost > missing || lost < missing-uncertain {
		t.Errorf("%s: %d messages missing, %d counted", rotten, missing, lost)
	}
	passes(t, s, src)
	src.Close()
	s.Close()
}

// Row 6: fsync fails, at first and again. Nothing is written to that file any more;
// what was not durable is stored in another one.
func TestRow06FsyncEIO(t *testing.T) {
	dir, syncs := t.TempDir(), 0
	failed := map[string]bool{}
	d := buggyDisk{disk: osDisk{}, file: func(f file, name string) file {
		if name == cursorName {
			return f
		}
		return eioFile{f, name, failed, &syncs}
	}}
	var troubles []error
	s := openTest(t, d, dir, Options{retryAfter: 1, OnTrouble: func(err error) { troubles = append(troubles, err) }})
	put(t, s, 1, 300, 10)
	src := s.NewSource("spool", nil)
	if got := drain(t, src); !slices.Equal(got, numbers(1, 300)) {
		t.Errorf("got %v", got)
	}
	passes(t, s, src)
	st := s.Stats()
	if len(failed) < 5 || st.Failures < 5 || st.Lost > 0 || st.Trouble != nil {
		t.Errorf("%d files failed: %+v", len(failed), st)
	}
	if len(troubles) != 1 || !errors.Is(troubles[0], syscall.EIO) {
		t.Errorf("said: %v", troubles)
	}
	src.Close()
}

// eioFile fails at every third sync, and must not be touched after that.
type eioFile struct {
	file
	name   string
	failed map[string]bool
	syncs  *int
}

func (f eioFile) WriteAt(b []byte, off int64) (int, error) {
	if f.failed[f.name] && off > 0 {
		return 0, errors.New("written after a failed sync")
	}
	delete(f.failed, f.name) // a new file of the same name
	return f.file.WriteAt(b, off)
}

func (f eioFile) Sync() error {
	if *f.syncs++; *f.syncs%3 == 0 {
		f.failed[fmt.Sprint(f.name, *f.syncs)] = true
		f.failed[f.name] = true
		return syscall.EIO
	}
	return f.file.Sync()
}

// faultDisk fails on demand. It may be used concurrently.
type faultDisk struct {
	disk
	fault *fault
}

type fault struct {
	mu  sync.Mutex
	err error
}

func (f *fault) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fault) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (d faultDisk) create(path string) (file, error) {
	if err := d.fault.get(); err != nil {
		return nil, err
	}
	return d.wrap(d.disk.create(path))
}

func (d faultDisk) open(path string, write bool) (file, error) {
	if err := d.fault.get(); err != nil && write {
		return nil, err
	}
	return d.wrap(d.disk.open(path, write))
}

func (d faultDisk) wrap(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return faultFile{f, d.fault}, nil
}

func (d faultDisk) rename(from, to string) error {
	if err := d.fault.get(); err != nil {
		return err
	}
	return d.disk.rename(from, to)
}

func (d faultDisk) remove(path string) error {
	if err := d.fault.get(); err != nil {
		return err
	}
	return d.disk.remove(path)
}

type faultFile struct {
	file
	fault *fault
}

func (f faultFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fault.get(); err != nil {
		n, _ := f.file.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.file.WriteAt(b, off)
}

// troubles returns options that tell of trouble on a channel.
func troubles(o Options) (Options, <-chan error) {
	c := make(chan error, 100)
	o.retryAfter, o.calmAfter = time.Millisecond, time.Millisecond
	o.OnTrouble = func(err error) { c <- err }
	return o, c
}

// Row 7: the disk is full, then has space again. An Append waits meanwhile.
func TestRow07NoSpace(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		f := new(fault)
		o, trouble := troubles(Options{})
		s := openTest(t, faultDisk{osDisk{}, f}, t.TempDir(), o)
		src := s.NewSource("spool", nil)
		for round := range 3 { // at first in a new segment, then in one that is written
			f.set(full)
			done := make(chan error, 1)
			go func() {
				done <- s.Append(context.Background(), []Message{{Text: numbered(uint64(2*round + 1))}, {Text: numbered(uint64(2*round + 2))}})
			}()
			if err := <-trouble; !errors.Is(err, full) {
				t.Errorf("said: %v", err)
			}
			select {
			case err := <-done:
				t.Fatalf("Append did not wait: %v", err)
			default:
			}
			f.set(nil)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if err := <-trouble; err != nil {
				t.Errorf("said: %v", err)
			}
			if got := drain(t, src); !slices.Equal(got, numbers(2*round+1, 2*round+2)) {
				t.Errorf("%v: got %v", full, got)
			}
		}
		passes(t, s, src)
		src.Close()
	}
}

// Row 7, on a real file system: a tmpfs that a ballast fills. It needs root.
func TestRow07FullTmpfs(t *testing.T) {
	if err := canMount(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if os.Getenv(insideEnv) == "" {
		runInside(t)
		return
	}
	mnt := t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mnt)
	defer exec.Command("umount", mnt).Run()
	o, trouble := troubles(Options{})
	s := openTest(t, osDisk{}, filepath.Join(mnt, "spool"), o)
	put(t, s, 1, 1000, 100)
	ballast := filepath.Join(mnt, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the ballast fits: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		var msgs []Message
		for i := 1001; i <= 2000; i++ {
			msgs = append(msgs, Message{Text: numbered(uint64(i))})
		}
		done <- s.Append(context.Background(), msgs)
	}()
	if err := <-trouble; !errors.Is(err, unix.ENOSPC) {
		t.Errorf("said: %v", err)
	}
	src := s.NewSource("spool", nil)
	if got := drain(t, src); !slices.Equal(got, numbers(1, 1000)) {
		t.Errorf("while the disk is full: got %d messages", len(got))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := drain(t, src); !slices.Equal(got, numbers(1001, 2000)) {
		t.Errorf("got %d messages", len(got))
	}
	passes(t, s, src)
	src.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Row 8: the file system turns read-only. What is stored is delivered, and confirmed;
// Append waits, and goes on when it can be written again. So does a start meanwhile.
func TestRow08ReadOnly(t *testing.T) {
	dir, f := t.TempDir(), new(fault)
	o, trouble := troubles(Options{MaxBytes: 1 << 20, segmentBytes: 2000})
	s := openTest(t, faultDisk{osDisk{}, f}, dir, o)
	put(t, s, 1, 100, 5)
	src := s.NewSource("spool", nil)
	f.set(syscall.EROFS)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Append(ctx, []Message{{Text: numbered(101)}}) }()
	<-trouble
	if got := drain(t, src); !slices.Equal(got, numbers(1, 100)) {
		t.Errorf("read-only: got %v", got)
	}
	p := commit(t, src)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("Append: %v", err)
	}
	src.Close()
	if err := s.Close(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Close: %v", err)
	}

	s = openTest(t, faultDisk{osDisk{}, f}, dir, o)
	src = s.NewSource("spool", nil)
	if err := src.Rewind(p); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, src); len(got) != 0 {
		t.Errorf("after a restart: got %v", got)
	}
	go func() { done <- s.Append(context.Background(), []Message{{Text: numbered(102)}}) }()
	for err := range trouble {
		if errors.Is(err, syscall.EROFS) {
			break
		}
	}
	f.set(nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := drain(t, src); !slices.Equal(got, []int{102}) {
		t.Errorf("writable again: got %v", got)
	}
	passes(t, s, src)
	commit(t, src)
	if st := s.Stats(); st.Lost != 0 || st.Segments != 1 {
		t.Errorf("%+v", st)
	}
	src.Close()
}

// Row 8: somebody removes the directory. It is made again, and what comes then is
// stored.
func TestRow08DirectoryGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "spool")
	s := openTest(t, osDisk{}, dir, Options{retryAfter: 1})
	put(t, s, 1, 10, 5)
	src := s.NewSource("spool", nil)
	if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	put(t, s, 11, 20, 5)
	got := drain(t, src)
	if len(got) < 10 || !slices.Equal(got[len(got)-10:], numbers(11, 20)) {
		t.Errorf("got %v", got)
	}
	if n := int(s.Stats().Lost) + len(got); n != 20 {
		t.Errorf("%d delivered, %d counted", len(got), s.Stats().Lost)
	}
	passes(t, s, src)
	src.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := open(osDisk{}, dir, Options{}); err != nil {
		t.Error(err)
	}
}

// Row 9: the disk stands still. Writers wait, hold no more than a batch in memory, and
// share the syncs when it goes on.
func TestRow09FrozenDisk(t *testing.T) {
	const writers = 50
	frozen, release := make(chan struct{}, 1), make(chan struct{})
	d := buggyDisk{disk: osDisk{}, file: func(f file, name string) file {
		if name == cursorName+".tmp" {
			return f
		}
		return buggyFile{f, func(f file) error {
			select {
			case frozen <- struct{}{}:
			default: // it is known
			}
			<-release
			return f.Sync()
		}}
	}}
	s := openTest(t, d, t.TempDir(), Options{})
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			for j := range 20 {
				if err := s.Append(t.Context(), []Message{{Text: bytes.Repeat([]byte{byte(i), byte(j)}, 50_000)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	<-frozen
	s.mu.Lock()
	for len(s.pending.frames) < batchBytes {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
	held := len(s.pending.frames) + len(s.storing.frames)
	s.mu.Unlock()
	if held > 2*(batchBytes+100_000+maxFields) {
		t.Errorf("%d bytes in memory", held)
	}
	close(release)
	wait.Wait()
	st := s.Stats()
	if st.Appended != writers*20 || st.Syncs > writers*20/2 {
		t.Errorf("%d messages in %d syncs", st.Appended, st.Syncs)
	}
	src := s.NewSource("spool", nil)
	defer src.Close()
	var e record.Entry
	last := map[byte]int{}
	for range writers * 20 {
		if ok, err := src.Next(&e); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if i, j := e.Message[0], int(e.Message[1])+1; j != last[i]+1 {
			t.Fatalf("message %d of writer %d comes behind %d", j, i, last[i])
		} else {
			last[i] = j
		}
	}
}

// Row 29: the cursor is lost, or garbage. Everything that is on disk is delivered again.
func TestRow29CursorLost(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"removed":   os.Remove,
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"one slot":  func(path string) error { return os.Truncate(path, slotBytes) },
		"garbage":   func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("x"), 600), 0o600) },
		"directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := Options{MaxBytes: 1 << 20, segmentBytes: 2000}
			s := openTest(t, osDisk{}, dir, o)
			put(t, s, 1, 100, 3)
			src := s.NewSource("spool", nil)
			var e record.Entry
			for range 50 {
				src.Next(&e)
			}
			p := commit(t, src)
			src.Close()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(dir, cursorName)); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, osDisk{}, dir, o)
			src = s.NewSource("spool", nil)
			defer src.Close()
			got := drain(t, src)
			if len(got) < 50 || len(got) > 56 || !slices.Equal(got, numbers(101-len(got), 100)) {
				t.Errorf("got %v", got)
			}
			// The position that the line has saved says more than the cursor.
			if err := src.Rewind(p); err != nil {
				t.Fatal(err)
			}
			if got := drain(t, src); name != "one slot" && !slices.Equal(got, numbers(51, 100)) {
				t.Errorf("from the saved position: got %v", got)
			}
			passes(t, s, src)
			if st := s.Stats(); st.Lost > 0 {
				t.Errorf("%d counted as lost", st.Lost)
			}
		})
	}
}

func commit(t *testing.T, src *Source) []byte {
	t.Helper()
	p, err := src.Position(nil)
	if err == nil {
		err = src.Commit(p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Row 32: an upgrade and a rollback. A spool that the first version of the format has
// written is read; one of a newer version is left alone, with an error that names it.
func TestRow32Versions(t *testing.T) {
	golden := filepath.Join("testdata", "version1")
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		cursorName:             readFile(t, filepath.Join(dir, cursorName)),
		"000000000000ffff.seg": header{}.append(nil),
	} {
		path := filepath.Join(dir, name)
		before, readErr := os.ReadFile(path)
		writeFile(t, path, newerVersion(content))
		files := snapshot(t, dir)
		_, err := Open(dir, Options{})
		if version := (*VersionError)(nil); !errors.As(err, &version) || version.Version != 2 || version.Path != path ||
			!strings.Contains(err.Error(), "version 2, this logship knows up to 1") {
			t.Errorf("%s: %v", name, err)
		}
		if after := snapshot(t, dir); after != files {
			t.Errorf("%s: changed:\n%s\n%s", name, files, after)
		}
		if readErr == nil {
			writeFile(t, path, before)
		} else if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	s := openTest(t, osDisk{}, dir, Options{})
	src := s.NewSource("spool", nil)
	defer src.Close()
	var e record.Entry
	if ok, err := src.Next(&e); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if got, want := describe(&e), string(readFile(t, "testdata/version1.txt")); got != strings.TrimSpace(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := drain(t, src); !slices.Equal(got, numbers(2, 12)) {
		t.Errorf("got %v", got)
	}
	passes(t, s, src)
}

// newerVersion returns a file of version 2.
func newerVersion(b []byte) []byte {
	b = slices.Clone(b)
	b[8] = 2
	sum := checksum(b[:12])
	b[12], b[13], b[14], b[15] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	return b
}

func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		fmt.Fprintf(&all, "%s %08x\n", f.Name(), checksum(readFile(t, filepath.Join(dir, f.Name()))))
	}
	return all.String()
}

func describe(e *record.Entry) string {
	return fmt.Sprintf("%s %q time %d severity %d facility %s transport %s host %s tag %s unit %s pid %s",
		e.ID, e.Message, e.TimeUsec, e.Priority, e.Facility, e.Transport, e.Host, e.Identifier, e.Unit, e.PID)
}
