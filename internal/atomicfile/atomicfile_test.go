package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path+".tmp", []byte("left over by a crash, and longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"old", "", "new content"} {
		if err := Replace(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("files %v, %v", left, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A failure leaves the old content.
func TestReplaceFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := Replace(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".tmp", 0o700); err != nil { // cannot be opened for writing
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new")); err == nil {
		t.Error("no error")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
	if err := Replace(filepath.Join(t.TempDir(), "missing", "x"), nil); err == nil {
		t.Error("no error without a directory")
	}
}

// TestReplaceMode: the mode holds for a file that was there with another one too.
func TestReplaceMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for _, mode := range []os.FileMode{0o644, 0o600, 0o666} {
		if err := ReplaceMode(path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v, %v, want %v", info.Mode(), err, mode)
		}
	}
}
