package ship

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func openState(t *testing.T, dir string) *StateDir {
	t.Helper()
	d, err := OpenStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func stateOf(seq uint64) *State {
	return &State{Version: 1, Seq: seq, Sources: map[string]json.RawMessage{"journal": json.RawMessage(`{"cursor":"s=1;i=2","files":{"a":5}}`)}}
}

func wantState(t *testing.T, d *StateDir, want *State) {
	t.Helper()
	got, err := d.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(State{})); diff != "" {
		t.Error(diff)
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := openState(t, dir)
	wantState(t, d, nil)
	for _, seq := range []uint64{0, 1, 1 << 63, 1<<64 - 1} {
		if err := d.Save(stateOf(seq)); err != nil {
			t.Fatal(err)
		}
		wantState(t, d, stateOf(seq))
	}
	if st, err := os.Stat(filepath.Join(dir, stateName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}

// The steps of Save, each as the last one before a crash.
func TestCrashDuringSave(t *testing.T) {
	old, next := stateOf(1), stateOf(2)
	whole, err := json.Marshal(next)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(whole); n++ {
		dir := t.TempDir()
		d := openState(t, dir)
		if err := d.Save(old); err != nil {
			t.Fatal(err)
		}
		// Created and written up to n bytes, not renamed.
		if err := os.WriteFile(filepath.Join(dir, stateName+".tmp"), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		d.Close()
		d = openState(t, dir)
		wantState(t, d, old)
		if err := d.Save(next); err != nil {
			t.Fatal(err)
		}
		wantState(t, d, next)
		if _, err := os.Lstat(filepath.Join(dir, stateName+".tmp")); !errors.Is(err, os.ErrNotExist) {
			t.Fatal("the temporary file is left behind")
		}
	}
}

// A longer left-over must not shine through.
func TestLeftOverIsReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateName+".tmp"), []byte(strings.Repeat("x", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openState(t, dir)
	if err := d.Save(stateOf(3)); err != nil {
		t.Fatal(err)
	}
	wantState(t, d, stateOf(3))
}

func TestFailedSaveKeepsTheOldState(t *testing.T) {
	dir := t.TempDir()
	d := openState(t, dir)
	if err := d.Save(stateOf(1)); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(dir, stateName+".tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(stateOf(2)); err == nil || !strings.Contains(err.Error(), "save the state: ") {
		t.Errorf("got %v", err)
	}
	wantState(t, d, stateOf(1))
	if err := os.Remove(tmp); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(stateOf(2)); err != nil {
		t.Fatal(err)
	}
	wantState(t, d, stateOf(2))
}

func TestDamagedState(t *testing.T) {
	whole, err := json.Marshal(stateOf(7))
	if err != nil {
		t.Fatal(err)
	}
	damaged := []string{"null", "[]", `"x"`, "{}", `{"version":0,"seq":1,"sources":{}}`, `{"version":-1,"seq":1,"sources":{}}`,
		`{"version":1,"seq":1}`, `{"version":1,"seq":-1,"sources":{}}`, `{"version":1,"seq":1,"sources":{},"more":1}`,
		string(whole) + "x", string(whole) + string(whole), strings.Repeat("\x00", len(whole))}
	for n := range whole {
		damaged = append(damaged, string(whole[:n]))
	}
	for _, content := range damaged {
		dir := t.TempDir()
		d := openState(t, dir)
		path := filepath.Join(dir, stateName)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := d.Load(); !errors.Is(err, ErrBadState) {
			t.Errorf("%q: got %v, %v", content, s, err)
		}
		if b, err := os.ReadFile(path + ".bad"); err != nil || string(b) != content {
			t.Errorf("%q is not kept: %q, %v", content, b, err)
		}
		wantState(t, d, nil)
	}
}

func TestStateThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	d := openState(t, dir)
	if err := os.Mkdir(filepath.Join(dir, stateName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(); err == nil || errors.Is(err, ErrBadState) || !strings.Contains(err.Error(), "read the state") {
		t.Errorf("got %v", err)
	}
}

func TestStateDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	d := openState(t, dir)
	for range 2 {
		if _, err := OpenStateDir(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	openState(t, dir)
}

func TestParallelOpenStateDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []*StateDir
	for range 16 {
		wg.Go(func() {
			d, err := OpenStateDir(dir)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				open = append(open, d)
			case !errors.Is(err, ErrLocked):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(open) != 1 {
		t.Errorf("%d have the directory", len(open))
	}
	for _, d := range open {
		d.Close()
	}
}

func TestStateDirErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStateDir(filepath.Join(file, "dir")); err == nil || !strings.Contains(err.Error(), "create the state directory") {
		t.Errorf("got %v", err)
	}
}
