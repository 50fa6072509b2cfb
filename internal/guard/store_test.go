package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// saveForever makes the test binary save ever larger tables to the file that this
// variable names, one after the other, and print a line after each.
const saveForever = "GUARD_TEST_SAVE_FOREVER"

func TestMain(m *testing.M) {
	if path := os.Getenv(saveForever); path != "" {
		tab, err := RecoverTable(path)
		for n := 0; err == nil; n++ {
			tab.put(fmt.Sprint("field_", tab.Len()), Kind(tab.Len()%4))
			if err = tab.Save(path); err == nil {
				fmt.Println(tab.Len())
			}
		}
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestKilledDuringSave: what was saved before a SIGKILL is there after it.
func TestKilledDuringSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	for round := range 20 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), saveForever+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		saved, lines := 0, bufio.NewScanner(out)
		for range 2 + round%5 {
			if !lines.Scan() {
				t.Fatal("it ended by itself")
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		// What it still had in the pipe was saved too.
		for ok := true; ok; ok = lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &saved); err != nil {
				t.Fatalf("it printed %q", lines.Text())
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("it was not killed")
		}
		tab, err := RecoverTable(path)
		if err != nil || tab.Len() < saved || tab.Len() > saved+1 {
			t.Fatalf("round %d: %d names, saved were %d: %v", round, tab.Len(), saved, err)
		}
	}
}

func wantTable(t *testing.T, path, want string) {
	t.Helper()
	tab, err := RecoverTable(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := textOf(t, tab); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRestartKeepsTheTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	for i, c := range []struct{ value, want string }{{"5", "5"}, {`"busy"`, ""}, {"7", "7"}} {
		tab, err := RecoverTable(path)
		if err != nil {
			t.Fatal(err)
		}
		g := New(Options{Table: tab})
		r := rec("x", c.value)
		g.Apply(r)
		if moved := r.Fields[0].Name.String() == "x_str"; moved != (c.want == "") || !moved && jsonOf(t, r.Fields[0].Value) != c.want {
			t.Errorf("start %d: got %v", i, pairs(t, r))
		}
		if g.Dirty() != (i < 2) {
			t.Errorf("start %d: dirty is %v", i, g.Dirty())
		}
		if err := g.Snapshot().Save(path); err != nil {
			t.Fatal(err)
		}
	}
	wantTable(t, path, "logship-types 1\nx number\nx_str string\n")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}

// The steps of Save, each as the last one before a crash.
func TestCrashDuringSave(t *testing.T) {
	next := table(t, "amount number", "created_at date", "user_name string")
	whole := textOf(t, next)
	const old = "logship-types 1\na string\n"
	for n := 0; n <= len(whole)+1; n++ {
		path := filepath.Join(t.TempDir(), FileName)
		if err := table(t, "a string").Save(path); err != nil {
			t.Fatal(err)
		}
		// Created and written up to n bytes, or longer than what comes; not renamed.
		left := strings.Repeat("x", 10_000)
		if n <= len(whole) {
			left = whole[:n]
		}
		if err := os.WriteFile(path+".tmp", []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		wantTable(t, path, old)
		if err := next.Save(path); err != nil {
			t.Fatal(err)
		}
		wantTable(t, path, whole)
		if _, err := os.Lstat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("the temporary file is left behind")
		}
	}
}

func TestFailedSaveKeepsTheOldTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if err := table(t, "a string").Save(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := table(t, "b string").Save(path); err == nil || !strings.HasPrefix(err.Error(), "save the types: ") {
		t.Errorf("got %v", err)
	}
	wantTable(t, path, "logship-types 1\na string\n")
	if err := table(t).Save(filepath.Join(path, "below", "a", "file")); err == nil {
		t.Error("saved below a file")
	}
	// A directory in the place of the file fails at the rename.
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, FileName, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := table(t).Save(filepath.Join(dir, FileName)); err == nil {
		t.Error("saved over a directory")
	}
}

func TestDamagedFileIsSetAside(t *testing.T) {
	for _, content := range []string{"", "x", "logship-types 1\na", "logship-types 1\na number\na number\n", strings.Repeat("\x00", 100), "logship-types 1\n" + strings.Repeat("#\n", maxTableBytes/2)} {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTable(path); !errors.Is(err, ErrBadTable) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.40q: got %v", content, err)
		}
		tab, err := RecoverTable(path)
		if !errors.Is(err, ErrBadTable) || tab == nil || tab.Len() != 0 {
			t.Errorf("%.40q: got %v, %v", content, tab, err)
		}
		if b, err := os.ReadFile(path + ".bad"); err != nil || string(b) != content {
			t.Errorf("%.40q is not kept: %v", content, err)
		}
		wantTable(t, path, "logship-types 1\n")
	}
}

func TestDamagedFileThatStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path+".bad", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if tab, err := RecoverTable(path); tab != nil || err == nil || errors.Is(err, ErrBadTable) {
		t.Errorf("got %v, %v", tab, err)
	}
}

func TestNewerFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	const content = "logship-types 2\nnobody knows\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if tab, err := RecoverTable(path); tab != nil || !errors.Is(err, ErrNewerTable) {
		t.Errorf("got %v, %v", tab, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != content {
		t.Errorf("the file is %q, %v", b, err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadTable(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if tab, err := RecoverTable(dir); tab != nil || err == nil || errors.Is(err, ErrBadTable) {
		t.Errorf("a directory: got %v, %v", tab, err)
	}
}
