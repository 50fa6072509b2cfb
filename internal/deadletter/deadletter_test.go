package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func letter(i int) Letter {
	return Letter{Time: time.Unix(1_700_000_000, 0).UTC(), Reason: "ends the connection", EventID: fmt.Sprint("id-", i),
		Message: json.RawMessage(fmt.Sprintf(`{"short_message":"<%d> é & \u0000"}`, i))}
}

func read(t *testing.T, f File) (all []Letter, bad int) {
	t.Helper()
	bad, err := f.Read(func(l Letter) error { all = append(all, l); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return all, bad
}

func open(t *testing.T, max int64) File {
	t.Helper()
	return File{Path: filepath.Join(t.TempDir(), "dlq.jsonl"), MaxBytes: max}
}

func mustAppend(t *testing.T, f File, l Letter) (dropped int) {
	t.Helper()
	dropped, err := f.Append(l)
	if err != nil {
		t.Fatal(err)
	}
	return dropped
}

func TestLettersComeBackAsTheyWere(t *testing.T) {
	f := open(t, 1<<20)
	if all, bad := read(t, f); all != nil || bad != 0 {
		t.Errorf("a file that is not there holds %v, %d", all, bad)
	}
	var want []Letter
	for i := range 3 {
		want = append(want, letter(i))
		if n := mustAppend(t, f, want[i]); n != 0 {
			t.Errorf("dropped %d", n)
		}
	}
	if got, bad := read(t, f); bad != 0 || cmp.Diff(got, want) != "" {
		t.Errorf("%d bad\n%s", bad, cmp.Diff(got, want))
	}
	if err := f.Remove(func(l Letter) bool { return l.EventID == "id-1" }); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, f); cmp.Diff(got, []Letter{want[0], want[2]}) != "" {
		t.Errorf("left %v", got)
	}
	info, err := os.Stat(f.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: messages are for their owner", info.Mode(), err)
	}
}

// What a crash left of a line costs that line only, wherever it was cut.
func TestLineThatIsCutOff(t *testing.T) {
	whole, err := encode(new(Letter))
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < len(whole)-1; cut++ {
		f := open(t, 1<<20)
		mustAppend(t, f, letter(1))
		file, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		file.Write(whole[:cut])
		file.Close()
		mustAppend(t, f, letter(2))
		if got, bad := read(t, f); bad != 1 || len(got) != 2 || got[1].EventID != "id-2" {
			t.Fatalf("cut at %d: %d bad, %v", cut, bad, got)
		}
	}
}

func TestOldestLettersGoFirst(t *testing.T) {
	f := open(t, 2000)
	dropped := 0
	for i := range 100 {
		dropped += mustAppend(t, f, letter(i))
		info, err := os.Stat(f.Path)
		if err != nil || info.Size() > f.MaxBytes {
			t.Fatalf("%v, %v", info, err)
		}
	}
	got, _ := read(t, f)
	if len(got)+dropped != 100 || len(got) < 3 {
		t.Fatalf("%d are left, %d dropped", len(got), dropped)
	}
	for i, l := range got {
		if want := fmt.Sprint("id-", dropped+i); l.EventID != want {
			t.Errorf("%s where %s should be", l.EventID, want)
		}
	}
	// One that is larger than the file may be is kept all the same, alone.
	large := letter(100)
	large.Reason = strings.Repeat("x", 3000)
	mustAppend(t, f, large)
	if got, _ := read(t, f); len(got) != 1 || got[0].EventID != "id-100" {
		t.Errorf("left %d", len(got))
	}
}

// Letters that come while others are removed are not lost.
func TestAppendBesideRemove(t *testing.T) {
	f := open(t, 1<<20)
	const n = 100
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			if _, err := f.Append(letter(i)); err != nil {
				t.Error(err)
			}
		}
	})
	for range 20 {
		if err := f.Remove(func(l Letter) bool { return l.EventID == "id-0" }); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if got, bad := read(t, f); bad != 0 || len(got) < n-1 {
		t.Errorf("%d of %d, %d bad", len(got), n, bad)
	}
}

func TestAppendFails(t *testing.T) {
	f := File{Path: filepath.Join(t.TempDir(), "missing", "dlq.jsonl"), MaxBytes: 1000}
	if _, err := f.Append(letter(1)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
