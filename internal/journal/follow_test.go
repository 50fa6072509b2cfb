package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
	"sidecar/internal/record"
)

// follower reads a directory as the line does: Next until there is nothing, then
// waiting for Ready or for as long as Idle says.
type follower struct {
	t *testing.T
	s *journal.Source
	gaps
}

func follow(t *testing.T, roots ...string) *follower {
	t.Helper()
	return followWith(t, func(o *journal.SourceOptions) {
		for _, root := range roots {
			o.Places = append(o.Places, journal.Place{Root: root})
		}
	})
}

func followWith(t *testing.T, set func(*journal.SourceOptions)) *follower {
	t.Helper()
	f := &follower{t: t}
	o := journal.SourceOptions{Options: journal.Options{AllFields: true, OnGap: f.add}, Start: journal.Start{Head: true}}
	set(&o)
	var err error
	if f.s, err = journal.NewSource(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := f.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// each calls visit for every entry until that returns false.
func (f *follower) each(visit func(*journal.Entry) bool) {
	f.t.Helper()
	var e journal.Entry
	r := f.s.Reader()
	deadline := time.After(20 * time.Second)
	for {
		for r.Next(&e) {
			if !visit(&e) {
				return
			}
		}
		select {
		case <-f.s.Ready():
		case <-time.After(f.s.Idle(time.Now())):
		case <-deadline:
			f.t.Fatal("no more entries for 20 s")
		}
	}
}

// messages returns the next n messages.
func (f *follower) messages(n int) []string {
	f.t.Helper()
	var out []string
	if n > 0 {
		f.each(func(e *journal.Entry) bool {
			out = append(out, string(e.Known(journal.Message)))
			return len(out) < n
		})
	}
	return out
}

// until follows until done says so, and fails if an entry comes.
func (f *follower) until(done func() bool) {
	f.t.Helper()
	var e journal.Entry
	r := f.s.Reader()
	deadline := time.After(20 * time.Second)
	for {
		if r.Next(&e) {
			f.t.Fatalf("unexpected entry %q", e.Known(journal.Message))
		}
		if done() {
			return
		}
		select {
		case <-f.s.Ready():
		case <-time.After(f.s.Idle(time.Now())):
		case <-deadline:
			f.t.Fatal("did not happen for 20 s")
		}
	}
}

// nothing says that the reader has nothing for now.
func (f *follower) nothing() {
	f.t.Helper()
	var e journal.Entry
	f.s.Reader().Look()
	if f.s.Reader().Next(&e) {
		f.t.Fatalf("unexpected entry %q", e.Known(journal.Message))
	}
}

func TestFollowsAWriterThroughRotations(t *testing.T) {
	followThroughRotations(t, followWhenThere)
}

func followThroughRotations(t *testing.T, follow func(*testing.T, string) *follower) {
	t.Helper()
	dir := t.TempDir()
	const files, each = 4, 700
	live := filepath.Join(dir, "system.journal")
	w := journaltest.Start(t, live, journaltest.Default())
	w.Write(exportText(1, 100, baseUsec, 0))
	f := follow(t, dir)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range files {
			text := exportText(each, uint64(i), baseUsec+uint64(i*each+1)*500, 500)
			for len(text) > 0 { // cut anywhere
				n := min(len(text), 40_000)
				w.Write(text[:n])
				text = text[n:]
			}
			w.Close()
			rename(t, live, archivedName(dir, "system", byte(i)))
			w = journaltest.Start(t, live, journaltest.Default())
		}
		w.Write(exportText(1, 101, baseUsec+files*each*500+1000, 0))
		w.Close()
	}()
	var got [][]byte
	f.each(func(e *journal.Entry) bool {
		got = append(got, journaltest.AppendExport(nil, e, false))
		return len(got) < files*each+2
	})
	<-written
	f.nothing()
	f.want(t, "", 0, 0)
	equalExport(t, got, journaltest.Export(t, dir))
}

// followWhenThere waits for the first file.
func followWhenThere(t *testing.T, dir string) *follower {
	t.Helper()
	empty := filepath.Join(dir, "empty.journal")
	writeFile(t, empty, newTiny(255, false).b)
	f := follow(t, dir)
	if err := os.Remove(empty); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFollowsAFileWhoseHeaderComesLater(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "old.journal"), newTiny(1, true).fill("old", 2).b)
	f := follow(t, dir)
	equalMessages(t, f.messages(2), numbered("old", 0, 2))
	path := filepath.Join(dir, "system.journal")
	w := newTiny(2, true)
	// Step by step: empty, a part of the header, the header, an entry.
	for _, b := range [][]byte{nil, make([]byte, 264), w.b[:100], w.b} {
		writeFile(t, path, b)
		f.nothing()
	}
	writeFile(t, path, w.fill("new", 1).b)
	equalMessages(t, f.messages(1), numbered("new", 0, 1))
	writeFile(t, path, w.fill("new", 200).b)
	equalMessages(t, f.messages(200), numbered("new", 1, 201))
	f.want(t, "", 0, 0)
}

func TestAFileWithoutHeaderDoesNotKeepItBusy(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "old.journal"), newTiny(1, true).b)
	path := filepath.Join(dir, "system.journal")
	writeFile(t, path, nil)
	f := follow(t, dir)
	now := time.Unix(1_900_000_000, 0)
	looks := 0
	for ; f.s.Idle(now) < time.Second; looks++ {
		if f.nothing(); looks > 1000 {
			t.Fatal("still looking")
		}
	}
	f.want(t, "unreadable_file", 0, 1)
	// It is not forgotten.
	writeFile(t, path, newTiny(2, true).fill("late", 1).b)
	f.s.Idle(now.Add(time.Minute))
	equalMessages(t, f.messages(1), numbered("late", 0, 1))
	f.want(t, "unreadable_file", 0, 1)
}

func TestFollowsThroughARename(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	w := newTiny(1, true).fill("a", 100)
	writeFile(t, path, w.b)
	f := follow(t, dir)
	equalMessages(t, f.messages(10), numbered("a", 0, 10))
	rename(t, path, archivedName(dir, "system", 1))
	writeFile(t, path, newTiny(2, true).fill("b", 100).b)
	var got []string
	f.each(func(e *journal.Entry) bool {
		got = append(got, string(e.Known(journal.Message)))
		return len(got) < 190
	})
	var a, b []string
	for _, m := range got {
		if strings.HasPrefix(m, "a") {
			a = append(a, m)
		} else {
			b = append(b, m)
		}
	}
	equalMessages(t, a, numbered("a", 10, 100))
	equalMessages(t, b, numbered("b", 0, 100))
	f.want(t, "", 0, 0)
}

// lateEntries makes a file whose entries are later than those of others.
func lateEntries(id byte, name string, n int) *tiny {
	w := newTiny(id, true)
	for i := range n {
		w.add(uint64(1_000_000+i), fmt.Sprintf("MESSAGE=%s-%d", name, i))
	}
	return w
}

func TestAFileThatIsEmptiedWhileReadIsACountedGap(t *testing.T) {
	empty := map[string]func(t *testing.T, path string, size int64){
		"truncated": func(t *testing.T, path string, _ int64) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		},
		"punched": func(t *testing.T, path string, size int64) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size); err != nil {
				t.Fatal(err)
			}
		},
	}
	for how, empty := range empty {
		for _, remove := range []bool{false, true} {
			for _, read := range []int{0, 1, 10, 4999, 5000} {
				t.Run(fmt.Sprintf("%s/removed=%t/%d", how, remove, read), func(t *testing.T) {
					dir := t.TempDir()
					path := archivedName(dir, "system", 1)
					w := newTiny(1, true)
					for i := range 5000 { // larger than the windows
						w.add(uint64(i), fmt.Sprintf("MESSAGE=a-%d", i), "PAD="+strings.Repeat("x", 100+i%100))
					}
					writeFile(t, path, w.b)
					writeFile(t, filepath.Join(dir, "system.journal"), lateEntries(2, "b", 5).b)
					f := follow(t, dir)
					equalMessages(t, f.messages(read), numbered("a", 0, read))
					empty(t, path, int64(len(w.b)))
					if remove {
						if err := os.Remove(path); err != nil {
							t.Fatal(err)
						}
					}
					checkAfterEmptying(t, f, read)
				})
			}
		}
	}
}

// checkAfterEmptying checks that what is not delivered is counted, once.
func checkAfterEmptying(t *testing.T, f *follower, read int) {
	t.Helper()
	delivered, next := 0, read
	var b []string
	f.each(func(e *journal.Entry) bool {
		m := string(e.Known(journal.Message))
		if strings.HasPrefix(m, "b") {
			b = append(b, m)
			return len(b) < 5
		}
		if m != fmt.Sprintf("a-%d", next) {
			t.Errorf("message %q, want a-%d", m, next)
		}
		delivered++
		next++
		return true
	})
	equalMessages(t, b, numbered("b", 0, 5))
	if missing := f.total(); int(missing) != 5000-read-delivered {
		t.Errorf("%d missing, want %d: %+v", missing, 5000-read-delivered, f.gaps)
	}
	if read == 5000 && len(f.gaps) > 0 {
		t.Errorf("gaps %+v of a file that was read", f.gaps)
	}
	// It goes on, and rewinding does not count it twice.
	reports := len(f.gaps)
	p, err := f.s.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.s.Commit(p); err != nil {
		t.Fatal(err)
	}
	if err := f.s.Rewind(p); err != nil {
		t.Fatal(err)
	}
	f.nothing()
	f.nothing()
	if len(f.gaps) != reports {
		t.Errorf("gaps after a rewind: %+v", f.gaps)
	}
}

func TestReadsADeletedFileToItsEnd(t *testing.T) {
	dir := t.TempDir()
	path := archivedName(dir, "system", 1)
	writeFile(t, path, newTiny(1, true).fill("a", 500).b)
	writeFile(t, filepath.Join(dir, "system.journal"), newTiny(2, true).b)
	f := follow(t, dir)
	equalMessages(t, f.messages(1), numbered("a", 0, 1))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.s.Reader().Look()
	equalMessages(t, f.messages(499), numbered("a", 1, 500))
	f.want(t, "", 0, 0)
	p, err := f.s.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.s.Commit(p); err != nil {
		t.Fatal(err)
	}
	if n := f.s.Reader().OpenFiles(); n != 1 {
		t.Errorf("%d files open, want 1", n)
	}
}

// sameInode makes a file at path with b that has the inode of the file that was
// there, as file systems do when a deleted file's number is free again.
func sameInode(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestALostFileDoesNotHideANewOneOfItsInode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	writeFile(t, path, newTiny(1, true).fill("a", 10).b)
	writeFile(t, filepath.Join(dir, "user-1000.journal"), newTiny(3, true).b)
	f := follow(t, dir)
	equalMessages(t, f.messages(4), numbered("a", 0, 4))
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool { return f.total() == 6 })
	sameInode(t, path, newTiny(2, true).fill("b", 10).b)
	equalMessages(t, f.messages(10), numbered("b", 0, 10))
	f.want(t, "vanished_file", 6, 1)
}

func TestARefusedFileDoesNotHideANewOneOfItsInode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	writeFile(t, path, []byte(strings.Repeat("garbage!", 100)))
	writeFile(t, filepath.Join(dir, "user-1000.journal"), newTiny(3, true).b)
	f := follow(t, dir)
	f.nothing()
	f.nothing()
	f.want(t, "unreadable_file", 0, 1)
	sameInode(t, path, newTiny(2, true).fill("b", 10).b)
	equalMessages(t, f.messages(10), numbered("b", 0, 10))
}

func TestRefusesGarbageHeaders(t *testing.T) {
	good := newTiny(1, true).fill("x", 3)
	for name, change := range map[string]func(b []byte){
		"signature":        func(b []byte) { b[0] = 'X' },
		"text":             func(b []byte) { copy(b, strings.Repeat("text ", 60)) },
		"small header":     func(b []byte) { b[88], b[89] = 100, 0 },
		"huge header size": func(b []byte) { b[94] = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := append([]byte(nil), good.b...)
			change(b)
			writeFile(t, filepath.Join(dir, "bad.journal"), b)
			writeFile(t, filepath.Join(dir, "good.journal"), newTiny(2, true).fill("good", 3).b)
			var g gaps
			equalMessages(t, messages(openDir(t, dir, &g)), numbered("good", 0, 3))
			g.want(t, "unreadable_file", 0, 1)
		})
	}
}

func TestADirectoryThatAppearsLater(t *testing.T) {
	run, parent := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(run, "system.journal"), newTiny(1, true).fill("run", 1).b)
	root := filepath.Join(parent, "log", "journal")
	f := follow(t, run, root)
	equalMessages(t, f.messages(1), numbered("run", 0, 1))
	machine := filepath.Join(root, boot1)
	for _, dir := range []string{filepath.Dir(root), root, machine} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		f.s.Reader().Next(new(journal.Entry)) // at any speed
	}
	writeFile(t, filepath.Join(machine, "system.journal"), newTiny(2, true).fill("var", 3).b)
	equalMessages(t, f.messages(3), numbered("var", 0, 3))
	// It is deleted and made again.
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	f.until(func() bool { return f.s.Reader().OpenFiles() >= 1 })
	if err := os.MkdirAll(machine, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(machine, "system.journal"), newTiny(3, true).fill("new", 3).b)
	equalMessages(t, f.messages(3), numbered("new", 0, 3))
	f.want(t, "", 0, 0)
}

func TestOnlyTheMachinesOwnSubdirectory(t *testing.T) {
	root := t.TempDir()
	for i, id := range []string{boot1, boot2} {
		dir := filepath.Join(root, id)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "system.journal"), newTiny(byte(i+1), true).fill(id[:4], 2).b)
		writeFile(t, filepath.Join(dir, "notes.txt"), []byte("not a journal"))
	}
	r, err := journal.NewReader(journal.Options{Places: []journal.Place{{Root: root, Machine: boot2}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	equalMessages(t, messages(r), numbered(boot2[:4], 0, 2))
}

func TestPositionsOfFilesThatAppearLaterAreKept(t *testing.T) {
	dir, away := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(dir, "a.journal"), newTiny(1, true).fill("a", 10).b)
	writeFile(t, filepath.Join(dir, "b.journal"), lateEntries(2, "b", 10).b)
	r := openDir(t, dir, nil)
	var e journal.Entry
	for range 14 {
		r.Next(&e)
	}
	p := r.Position()
	rename(t, filepath.Join(dir, "a.journal"), filepath.Join(away, "a.journal"))
	rename(t, filepath.Join(dir, "b.journal"), filepath.Join(away, "b.journal"))
	writeFile(t, filepath.Join(dir, "c.journal"), newTiny(3, true).b)
	r = openDir(t, dir, nil)
	if err := r.Seek(p); err != nil {
		t.Fatal(err)
	}
	equalMessages(t, messages(r), nil)
	rename(t, filepath.Join(away, "a.journal"), filepath.Join(dir, "a.journal"))
	rename(t, filepath.Join(away, "b.journal"), filepath.Join(dir, "b.journal"))
	r.Look()
	equalMessages(t, messages(r), numbered("b", 4, 10))
}

func TestACopyDoesNotHideTheFileThatGrows(t *testing.T) {
	for _, names := range [][2]string{{"a.journal", "b.journal"}, {"b.journal", "a.journal"}} {
		dir := t.TempDir()
		w := newTiny(1, true).fill("x", 10)
		writeFile(t, filepath.Join(dir, names[0]), w.b) // the copy
		writeFile(t, filepath.Join(dir, names[1]), w.b)
		f := follow(t, dir)
		equalMessages(t, f.messages(10), numbered("x", 0, 10))
		writeFile(t, filepath.Join(dir, names[1]), w.fill("x", 10).b)
		f.s.Reader().Look()
		equalMessages(t, f.messages(10), numbered("x", 10, 20))
		f.nothing()
		f.want(t, "", 0, 0)
	}
}

func TestALiveFileIsNotTakenForAnArchivedOne(t *testing.T) {
	for _, name := range []string{"system.journal", "mail@home.journal", "x@0123456789abcdef0123456789abcdef-000000000000000z.journal"} {
		dir := filepath.Join(t.TempDir(), "at@"+boot1+"-1-1.journal")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		w := newTiny(1, true).fill("x", 3)
		writeFile(t, path, w.b)
		f := follow(t, dir)
		equalMessages(t, f.messages(3), numbered("x", 0, 3))
		p, err := f.s.Position(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.s.Commit(p); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, w.fill("x", 3).b)
		equalMessages(t, f.messages(3), numbered("x", 3, 6))
	}
}

func TestNoJournal(t *testing.T) {
	for name, root := range map[string]string{"empty": t.TempDir(), "missing": filepath.Join(t.TempDir(), "none")} {
		_, err := journal.NewSource(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: root}}}})
		if !errors.Is(err, journal.ErrNoJournal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// asNobody runs this test again as a user who owns nothing, because root may
// read everything. It reports whether the caller is that user.
func asNobody(t *testing.T, env ...string) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), append(env, "GORACE=atexit_sleep_ms=0")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	// The binary stands in a directory that only root may enter: by descriptor.
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as uid 65534: %v\n%s", err, out)
	}
	return false
}

func TestAFileWithoutPermissionIsReportedOnceAndReadLater(t *testing.T) {
	if !asNobody(t, "TMPDIR=/tmp") {
		return
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "user-1000.journal"), newTiny(1, true).fill("mine", 2).b)
	f := follow(t, dir)
	equalMessages(t, f.messages(2), numbered("mine", 0, 2))
	path := filepath.Join(dir, "system.journal")
	writeFile(t, path+".new", newTiny(2, true).fill("system", 2).b)
	if err := os.Chmod(path+".new", 0); err != nil {
		t.Fatal(err)
	}
	rename(t, path+".new", path)
	f.until(func() bool { return len(f.gaps) > 0 })
	f.nothing()
	f.nothing()
	f.want(t, "unreadable_file", 0, 1)
	if err := f.s.Reader().Access(); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
		t.Errorf("Access: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	equalMessages(t, f.messages(2), numbered("system", 0, 2))
	if err := f.s.Reader().Access(); err != nil {
		t.Errorf("Access after chmod: %v", err)
	}
	f.want(t, "unreadable_file", 0, 1)
}

func TestADirectoryWithoutPermissionHidesNothingElse(t *testing.T) {
	if !asNobody(t, "TMPDIR=/tmp") {
		return
	}
	root := t.TempDir()
	closed := filepath.Join(root, boot1)
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(closed, "system.journal"), newTiny(1, true).fill("a", 4).b)
	writeFile(t, filepath.Join(root, "system.journal"), newTiny(2, true).fill("b", 2).b)
	f := follow(t, root)
	f.messages(6)
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	f.nothing()
	f.nothing()
	f.want(t, "unreadable_file", 0, 1)
	if _, err := journal.NewSource(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: root}}}}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("NewSource: %v", err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	f.nothing() // not read again from the start
}

func TestFinishedFilesAreClosedOnceConfirmed(t *testing.T) {
	dir := t.TempDir()
	const files, each = 300, 40
	for i := range files { // overlapping in time
		w := newTiny(1, i%2 == 0)
		w.put64(24, uint64(i+1)) // file_id
		w.put64(72, uint64(i+1)) // seqnum_id
		for k := range each {
			w.add(uint64(100*i+k*20), fmt.Sprintf("MESSAGE=%d-%d %s", i, k, strings.Repeat("z", 700)))
		}
		writeFile(t, filepath.Join(dir, fmt.Sprintf("system@%032x-%016x-%016x.journal", i, i, i)), w.b)
	}
	writeFile(t, filepath.Join(dir, "system.journal"), newTiny(2, true).b)
	f := follow(t, dir)
	position, err := f.s.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for r := f.s.Reader(); r.Next(new(journal.Entry)); {
		if count++; count%300 != 1 {
			continue
		}
		if n := f.s.Reader().HeldBytes(); n > 12<<20 {
			t.Errorf("%d bytes of windows after %d entries", n, count)
		}
	}
	if count != files*each {
		t.Errorf("%d entries, want %d", count, files*each)
	}
	if n := f.s.Reader().OpenFiles(); n != files+1 {
		t.Errorf("%d files open before the confirmation", n)
	}
	if n := f.s.Reader().HeldBytes(); n > 1<<20 {
		t.Errorf("%d bytes of windows after the end", n)
	}
	end, err := f.s.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.s.Commit(position); err != nil { // the start: confirms nothing
		t.Fatal(err)
	}
	if n := f.s.Reader().OpenFiles(); n != files+1 {
		t.Errorf("%d files open after confirming nothing", n)
	}
	if err := f.s.Commit(end); err != nil {
		t.Fatal(err)
	}
	if n := f.s.Reader().OpenFiles(); n != 1 {
		t.Errorf("%d files open after the confirmation", n)
	}
	f.nothing() // they are still known
	if err := f.s.Rewind(position); err != nil {
		t.Fatal(err)
	}
	if got := f.messages(files * each); len(got) != count {
		t.Errorf("%d entries after a rewind", len(got))
	}
	f.want(t, "", 0, 0)
}

func TestSourceStarts(t *testing.T) {
	dir := t.TempDir()
	w := newTiny(1, true).fill("a", 10)
	path := filepath.Join(dir, "system.journal")
	writeFile(t, path, w.b)
	for name, c := range map[string]struct {
		start journal.Start
		from  int
	}{
		"tail":  {journal.Start{}, 10},
		"head":  {journal.Start{Head: true}, 0},
		"since": {journal.Start{Since: time.UnixMicro(baseUsec + 6)}, 6},
		"1969":  {journal.Start{Since: time.Unix(-1, 0)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := journal.NewSource(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: dir}}}, Start: c.start})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var got []string
			var e record.Entry
			for {
				ok, err := s.Next(&e)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				got = append(got, string(e.Message))
			}
			equalMessages(t, got, numbered("a", c.from, 10))
		})
	}
}

func TestRunAndCloseLeaveNothingBehind(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "system.journal"), newTiny(1, true).fill("a", 10).b)
	before := openDescriptors(t)
	for _, closeFirst := range []bool{false, true} {
		s, err := journal.NewSource(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: dir}}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		if closeFirst {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	}
	if n := openDescriptors(t); n != before {
		t.Errorf("%d descriptors, before %d", n, before)
	}
	goleak.VerifyNone(t, ignore)
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestWaitsForAnEntryThatIsPublishedButNotVisible(t *testing.T) {
	// What other processors may see late: a slot, the entry, a new array, its link.
	hide := map[string]func(w *tiny) (at, size int){
		"slot":        func(w *tiny) (int, int) { return int(w.arrays[2]) + 24 + 4*7, 4 },
		"entry":       func(w *tiny) (int, int) { return int(w.entries[19]), 16 },
		"first array": func(*tiny) (int, int) { return 176, 8 },
		"next array":  func(w *tiny) (int, int) { return int(w.arrays[2]), 24 },
		"link":        func(w *tiny) (int, int) { return int(w.arrays[1]) + 16, 8 },
	}
	for name, hide := range hide {
		for _, appears := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/appears=%t", name, appears), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "system.journal")
				w := newTiny(1, true).fill("a", 20)
				b := append([]byte(nil), w.b...)
				at, size := hide(w)
				clear(b[at:][:size])
				writeFile(t, path, b)
				f := follow(t, dir)
				hidden := map[string]int{"slot": 19, "entry": 19, "first array": 0, "next array": 12, "link": 12}[name]
				equalMessages(t, f.messages(hidden), numbered("a", 0, hidden))
				f.nothing()
				f.want(t, "", 0, 0)
				if appears {
					writeFile(t, path, w.fill("a", 1).b)
					equalMessages(t, f.messages(21-hidden), numbered("a", hidden, 21))
					f.want(t, "", 0, 0)
					return
				}
				for range 110 {
					f.nothing()
				}
				reason := "damaged_file"
				if name == "slot" || name == "entry" {
					reason = "damaged_entry"
				}
				f.want(t, reason, uint64(20-hidden), 1)
			})
		}
	}
}

func TestNamespaces(t *testing.T) {
	root := t.TempDir()
	for i, name := range []string{boot1, boot1 + ".web", boot1 + ".webhooks", boot1 + ".db", boot2 + ".web"} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		w := newTiny(byte(i+1), true)
		w.add(uint64(i), "MESSAGE="+strings.TrimPrefix(name, boot1))
		writeFile(t, filepath.Join(dir, "system.journal"), w.b)
	}
	for _, c := range []struct{ namespaces, want []string }{
		{nil, []string{""}},
		{[]string{"web"}, []string{"", ".web"}},
		{[]string{"web*"}, []string{"", ".web", ".webhooks"}},
		{[]string{"*"}, []string{"", ".web", ".webhooks", ".db"}},
		{[]string{"d?", "nothing"}, []string{"", ".db"}},
	} {
		r, err := journal.NewReader(journal.Options{Places: []journal.Place{{Root: root, Machine: boot1, Namespaces: c.namespaces}}})
		if err != nil {
			t.Fatal(err)
		}
		equalMessages(t, messages(r), c.want)
		r.Close()
	}
}
