package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/output"
	"sidecar/internal/output/file"
)

// document returns the document of message i, without its end.
func document(i int) string {
	return fmt.Sprintf(`{"version":"1.1","host":"h","short_message":"%d"}`, i)
}

// join returns the documents first to last-1, each with end behind it.
func join(first, last int, end string) string {
	var b strings.Builder
	for i := first; i < last; i++ {
		b.WriteString(document(i) + end)
	}
	return b.String()
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

type sender interface {
	Connect(context.Context) error
	Send(context.Context, []byte) error
	Cut(context.Context, uint64, bool) (bool, error)
	Events() <-chan output.Event
	Abort()
}

func send(t *testing.T, out sender, first, last int) {
	t.Helper()
	if err := out.Send(within(t), []byte(join(first, last, "\x00"))); err != nil {
		t.Fatal(err)
	}
}

func cut(t *testing.T, out sender, id uint64) {
	t.Helper()
	if done, err := out.Cut(within(t), id, false); !done || err != nil {
		t.Fatal(done, err)
	}
	if e := <-out.Events(); e.Kind != output.Confirmed || e.Cut != id {
		t.Fatalf("got event %+v", e)
	}
}

func connect(t *testing.T, path string) *file.File {
	t.Helper()
	out := file.New(path)
	t.Cleanup(out.Abort)
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	return out
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != want {
		t.Errorf("%s holds %q, want %q", filepath.Base(path), b, want)
	}
}

func TestFileTakesALinePerDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	out := connect(t, path)
	send(t, out, 0, 3)
	cut(t, out, 1)
	send(t, out, 3, 1000)
	cut(t, out, 2)
	out.Abort()
	if err := out.Send(within(t), []byte("x\x00")); err == nil {
		t.Error("Send without a file succeeds")
	}
	if _, err := out.Cut(within(t), 3, true); err == nil {
		t.Error("Cut without a file succeeds")
	}
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	send(t, out, 1000, 1001)
	wantContent(t, path, join(0, 1001, "\n"))
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o640 {
		t.Error(info.Mode(), err)
	}
}

// logrotate renames the file, with or without making a new one, or a person removes it.
func TestFileIsMadeAnewWhenItsNameIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	out := connect(t, path)
	send(t, out, 0, 10)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	send(t, out, 10, 20)
	cut(t, out, 1)
	wantContent(t, path+".1", join(0, 10, "\n"))
	wantContent(t, path, join(10, 20, "\n"))

	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // create
		t.Fatal(err)
	}
	send(t, out, 20, 30)
	wantContent(t, path+".2", join(10, 20, "\n"))
	wantContent(t, path, join(20, 30, "\n"))

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	send(t, out, 30, 40)
	wantContent(t, path, join(30, 40, "\n"))

	if err := os.Truncate(path, 0); err != nil { // copytruncate
		t.Fatal(err)
	}
	send(t, out, 40, 50)
	wantContent(t, path, join(40, 50, "\n"))
}

// What a crash left of a line is taken away at every length of it; what is not ours is kept.
func TestFileEndsInAWholeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	ok := func(before, want string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		out := connect(t, path)
		send(t, out, 7, 8)
		out.Abort()
		wantContent(t, path, want+document(7)+"\n")
	}
	whole := document(1) + "\n"
	ok("", "")
	ok(whole, whole)
	for i := 1; i <= len(document(2)); i++ {
		ok(whole+document(2)[:i], whole)
		ok(document(2)[:i], "")
	}
	ok(whole+"\x00\x00\x00", whole)
	ok("a note", "a note\n")
	ok("{", "")
	long := `{"version":"1.1",` + strings.Repeat("x", 200<<10)
	ok(whole+long, whole)
	ok(whole+long+"\n"+long, whole+long+"\n")
	ok(strings.Repeat("y", 64<<10)+"\n"+document(2), strings.Repeat("y", 64<<10)+"\n")
}

func TestFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	bad := func(path, want string) {
		t.Helper()
		err := file.New(path).Connect(within(t))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q in it", path, err, want)
		}
	}
	path := filepath.Join(dir, "out.jsonl")
	out := connect(t, path)
	bad(path, "locked by another process")
	out.Abort()
	connect(t, path)

	bad(dir, "is a directory")
	bad(filepath.Join(dir, "none", "out.jsonl"), "no such file or directory")
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	bad(pipe, "not a regular file")
}

// A full disk holds; when there is room again everything is there, in whole lines.
func TestFileOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv("CI") != "true" {
		t.Skip("needs root to mount a small file system")
	}
	mnt := t.TempDir()
	if b, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mnt).CombinedOutput(); err != nil {
		t.Fatal(err, string(b))
	}
	defer func() {
		if err := syscall.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	}()
	path, ballast := filepath.Join(mnt, "out.jsonl"), filepath.Join(mnt, "ballast")
	out := connect(t, path)
	defer out.Abort()
	send(t, out, 0, 10)
	cut(t, out, 1)
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	frames := []byte(join(10, 1010, "\x00"))
	if err := out.Send(within(t), frames); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	out.Abort()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(join(0, 1010, "\n"), string(whole)) || !strings.HasSuffix(string(whole), "}\n") || len(whole) < len(join(0, 20, "\n")) {
		t.Errorf("%d bytes: ...%q", len(whole), whole[max(0, len(whole)-100):])
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	send(t, out, 10, 1010)
	cut(t, out, 2)
	wantContent(t, path, string(whole)+join(10, 1010, "\n"))
}
