package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

// Incompatible flags (systemd JOURNAL_FILE_FORMAT).
const (
	keyedFlag   = 1 << 2
	compactFlag = 1 << 4
	futureFlag  = 1 << 5
)

// openAvoiding reads files that have one of these flags through journalctl.
func openAvoiding(t testing.TB, dir string, flags uint32, g *gaps) *journal.Reader {
	t.Helper()
	journaltest.Need(t)
	o := journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: true}
	o.Avoid(flags)
	if g != nil {
		o.OnGap = g.add
	}
	return open(t, o)
}

func TestFallbackReadsAsTheReaderItself(t *testing.T) {
	dir := t.TempDir()
	manyFiles(t, dir)
	settle(t, dir)
	for name, c := range map[string]struct {
		flags uint32
		files int
	}{"all": {keyedFlag, 6}, "some": {compactFlag, 4}} {
		t.Run(name, func(t *testing.T) {
			native, through := openDir(t, dir, nil), openAvoiding(t, dir, c.flags, nil)
			var want, got journal.Entry
			n := 0
			for ; native.Next(&want); n++ {
				if !through.Next(&got) {
					t.Fatalf("no entry %d", n)
				}
				g, w := journaltest.AppendExport(nil, &got, true), journaltest.AppendExport(nil, &want, true)
				if !bytes.Equal(g, w) || got.Damaged > 0 {
					t.Fatalf("entry %d:\n got %.500q\nwant %.500q", n, g, w)
				}
				for name := journal.Message; name <= journal.PartialMessage; name++ {
					if !bytes.Equal(got.Known(name), want.Known(name)) {
						t.Fatalf("entry %d: name %d is %q, want %q", n, name, got.Known(name), want.Known(name))
					}
				}
				if n%100 == 0 {
					equalPositions(t, through.Position(), native.Position())
				}
			}
			if through.Next(&got) || n != 1450 {
				t.Errorf("more than %d entries", n)
			}
			equalPositions(t, through.Position(), native.Position())
			all := through.Fallbacks()
			if len(all) != 1 || all[0].Directory != dir || all[0].Files != c.files || !errors.Is(all[0].Why, journal.ErrIncompatible) || all[0].Err != nil {
				t.Errorf("%+v", all)
			}
			if len(native.Fallbacks()) > 0 || through.Children() > 0 || through.Pending() > 0 {
				t.Errorf("%d children, %d pending after the end", through.Children(), through.Pending())
			}
		})
	}
}

// settle makes the files of dir look as if nothing wrote to them for a while.
func settle(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Chtimes(filepath.Join(dir, f.Name()), time.Time{}, time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
}

func equalPositions(t *testing.T, got, want journal.Position) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("position\n got %v\nwant %v", got, want)
	}
}

func TestFallbackSeeksAsTheReaderItself(t *testing.T) {
	dir := t.TempDir()
	manyFiles(t, dir)
	journaltest.Write(t, filepath.Join(dir, "empty.journal"), journaltest.Default(), nil)
	native, through := openDir(t, dir, nil), openAvoiding(t, dir, keyedFlag, nil)
	middle := openDir(t, dir, nil)
	var e journal.Entry
	for range 700 {
		middle.Next(&e)
	}
	position := middle.Position()
	for name, seek := range map[string]func(*journal.Reader){
		"head":     (*journal.Reader).SeekHead,
		"tail":     (*journal.Reader).SeekTail,
		"before":   func(r *journal.Reader) { r.SeekTime(baseUsec - 5) },
		"time":     func(r *journal.Reader) { r.SeekTime(baseUsec + 700_000) },
		"late":     func(r *journal.Reader) { r.SeekTime(baseUsec + 1_900_000) },
		"behind":   func(r *journal.Reader) { r.SeekTime(baseUsec + 1e9) },
		"last 0":   func(r *journal.Reader) { r.SeekLast(0) },
		"last 1":   func(r *journal.Reader) { r.SeekLast(1) },
		"last 40":  func(r *journal.Reader) { r.SeekLast(40) },
		"last all": func(r *journal.Reader) { r.SeekLast(1e6) },
		"cursor": func(r *journal.Reader) {
			if err := r.Seek(journal.Position{Cursor: position.Cursor}); err != nil {
				t.Error(err)
			}
		},
		"position": func(r *journal.Reader) {
			if err := r.Seek(position); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			seek(native)
			seek(through)
			if name == "tail" || name == "behind" || name == "position" { // else last is 0 or that of a file not read yet
				equalPositions(t, journal.Position{Files: through.Position().Files}, journal.Position{Files: native.Position().Files})
			}
			again := openAvoiding(t, dir, keyedFlag, nil)
			if err := again.Seek(through.Position()); err != nil {
				t.Error(err)
			}
			want := readExport(t, native)
			equalExport(t, readExport(t, through), bytes.Join(want, nil))
			if name != "before" && name != "head" {
				equalExport(t, readExport(t, again), bytes.Join(want, nil))
			}
		})
	}
}

func TestFallbackReadsManyFilesWithFewChildren(t *testing.T) {
	dir := t.TempDir()
	const files = journal.MaxChildren + 4
	for i := range files {
		journaltest.Write(t, filepath.Join(dir, fmt.Sprintf("%d.journal", i)), journaltest.Default(), plainText(fmt.Sprint(i), 3, baseUsec+uint64(i), 1000))
	}
	through := openAvoiding(t, dir, compactFlag, nil)
	var e journal.Entry
	for i := range 3 * files {
		if !through.Next(&e) || string(e.Known(journal.Message)) != fmt.Sprintf("%d-%d", i%files, i/files) {
			t.Fatalf("entry %d is %q", i, e.Known(journal.Message))
		}
		if n := through.Children(); n > journal.MaxChildren {
			t.Fatalf("%d children", n)
		}
	}
	through.Close()
	if through.Next(&e) || through.Children() != 0 {
		t.Errorf("%d children after the end", through.Children())
	}
}

func TestFallbackEndsItsChildrenWithTheReader(t *testing.T) {
	dir := t.TempDir()
	journaltest.Write(t, filepath.Join(dir, "x.journal"), journaltest.Default(), exportText(1000, 5, baseUsec, 1000))
	r := openAvoiding(t, dir, compactFlag, nil)
	var e journal.Entry
	if !r.Next(&e) || r.Children() != 1 {
		t.Fatalf("%d children", r.Children())
	}
	r.Close()
	if r.Children() != 0 {
		t.Errorf("%d children after the end", r.Children())
	}
}

// followAvoiding follows dir through the command.
func followAvoiding(t *testing.T, dir, command string) *follower {
	t.Helper()
	journaltest.Need(t)
	return followWith(t, func(o *journal.SourceOptions) {
		o.Places = []journal.Place{{Root: dir}}
		o.Journalctl = command
		o.Avoid(compactFlag)
		o.Patience(500 * time.Millisecond)
	})
}

func TestFallbackFollowsThroughARotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	writeFile(t, filepath.Join(dir, "other.journal"), newTiny(9, false).b)
	f := followAvoiding(t, dir, "")
	first := journaltest.Start(t, path, journaltest.Default())
	first.Write(plainText("a", 20, baseUsec, 10))
	equalMessages(t, f.messages(20), numbered("a", 0, 20))
	first.Write(plainText("b", 20, baseUsec+500, 10))
	equalMessages(t, f.messages(10), numbered("b", 0, 10))
	first.Write(plainText("c", 20, baseUsec+1000, 10))
	first.Close()
	rename(t, path, archivedName(dir, "system", 1))
	second := journaltest.Start(t, path, journaltest.Default())
	second.Write(plainText("d", 20, baseUsec+1500, 10))
	want := slices.Concat(numbered("b", 10, 20), numbered("c", 0, 20), numbered("d", 0, 20))
	equalMessages(t, f.messages(50), want)
	second.Write(plainText("e", 2, baseUsec+2000, 10))
	equalMessages(t, f.messages(2), numbered("e", 0, 2))
	if len(f.gaps) > 0 {
		t.Errorf("%+v", f.gaps)
	}
}

// grownFile returns the bytes of a journal file when it has the first of two
// batches of entries, and when it has both.
func grownFile(t *testing.T, first, second []byte) (before, after []byte) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "x.journal")
	w := journaltest.Start(t, path, journaltest.Default())
	w.Write(first)
	f := followWhenThere(t, dir)
	f.messages(bytes.Count(first, []byte("\n\n")))
	read := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before = read()
	w.Write(second)
	w.Close()
	return before, read()
}

// What a file has is not overtaken by a new file, though the next round of looks
// at known files is not due yet.
func TestFallbackKeepsTheOrderWhenAFileAppears(t *testing.T) {
	before, after := grownFile(t, plainText("a", 5, baseUsec, 10), plainText("b", 5, baseUsec+100, 10))
	dir, made := t.TempDir(), filepath.Join(t.TempDir(), "new.journal")
	journaltest.Write(t, made, journaltest.Default(), plainText("c", 5, baseUsec+200, 10))
	path := filepath.Join(dir, "system.journal")
	writeFile(t, path, before)
	r := openAvoiding(t, dir, compactFlag, nil)
	equalMessages(t, messages(r), numbered("a", 0, 5))
	writeFile(t, path, after)
	rename(t, made, filepath.Join(dir, "new.journal"))
	r.Look()
	equalMessages(t, messages(r), append(numbered("b", 0, 5), numbered("c", 0, 5)...))
}

// A write within the same tick of the clock as the last look does not change the
// time of the file.
func TestFallbackSeesAWriteThatLeavesTheTime(t *testing.T) {
	journaltest.Need(t)
	before, after := grownFile(t, plainText("a", 5, baseUsec, 10), plainText("b", 5, baseUsec+100, 10))
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	tick := time.Now()
	write := func(b []byte) {
		writeFile(t, path, b)
		if err := os.Chtimes(path, time.Time{}, tick); err != nil {
			t.Fatal(err)
		}
	}
	write(before)
	o := journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: true}
	o.Avoid(compactFlag)
	o.Settled(time.Hour) // the tick is not over
	r := open(t, o)
	equalMessages(t, messages(r), numbered("a", 0, 5))
	write(after)
	var got []string
	for start := time.Now(); len(got) < 5 && time.Since(start) < 30*time.Second; { // only a failure takes so long
		r.Look()
		got = append(got, messages(r)...)
	}
	equalMessages(t, got, numbered("b", 0, 5))
}

func TestFallbackFollowsAWriterThroughRotations(t *testing.T) {
	followThroughRotations(t, func(t *testing.T, dir string) *follower {
		writeFile(t, filepath.Join(dir, "other.journal"), newTiny(9, false).b)
		return followAvoiding(t, dir, "")
	})
}

// script makes a command that runs sh code, in which $real is journalctl.
func script(t *testing.T, code string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journalctl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nreal='journalctl'\nhere=${0%/*}\n"+code), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFallbackForgivesOneFailure: a child may come across a file that is being
// written to; what the next one reads keeps its place.
func TestFallbackForgivesOneFailure(t *testing.T) {
	journaltest.Need(t)
	dir := t.TempDir()
	journaltest.Write(t, filepath.Join(dir, "bad.journal"), journaltest.Default(), plainText("a", 200, baseUsec, 10))
	journaltest.Write(t, filepath.Join(dir, "good.journal"), journaltest.Variants()[0], plainText("b", 5, baseUsec+1e6, 10))
	f := followAvoiding(t, dir, script(t, `mkdir "$here/ran" 2>/dev/null || exec $real "$@"
$real "$@" | head -c 20000; exit 1
`))
	equalMessages(t, f.messages(205), append(numbered("a", 0, 200), numbered("b", 0, 5)...))
	f.want(t, "", 0, 0)
}

// TestFallbackGoesOnWhereAChildFailed lets the first child fail in several ways.
func TestFallbackGoesOnWhereAChildFailed(t *testing.T) {
	for name, fail := range map[string]string{
		"before anything":   `echo 'bad message' >&2; exit 1`,
		"within an entry":   `$real "$@" | head -c 20000; exit 1`,
		"with a good word":  `$real "$@" | head -c 20000; exit 0`,
		"twice":             `mkdir "$here/again" 2>/dev/null && rmdir "$here/ran"; exit 1`,
		"killed":            `$real "$@" | head -c 20000; kill -KILL $$`,
		"with nonsense":     `$real "$@" | head -c 20000; echo; echo; echo 'A sentence'; echo; echo`,
		"without a word":    `exec sleep 60`,
		"without the end":   `$real "$@" | head -c 20000; exec sleep 60`,
		"out of its bounds": `printf 'X\n\377\377\377\377\377\377\377\377'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			journaltest.Write(t, filepath.Join(dir, "bad.journal"), journaltest.Default(), plainText("a", 200, baseUsec, 10))
			v := journaltest.Variants()[0]
			journaltest.Write(t, filepath.Join(dir, "good.journal"), v, plainText("b", 5, baseUsec+1e6, 10))
			f := followAvoiding(t, dir, script(t, `if mkdir "$here/ran" 2>/dev/null; then
`+fail+`
fi
exec $real "$@"
`))
			got := f.messages(205)
			isGood := func(s string) bool { return strings.HasPrefix(s, "b-") }
			good := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !isGood(s) })
			equalMessages(t, good, numbered("b", 0, 5))
			equalMessages(t, slices.DeleteFunc(got, isGood), numbered("a", 0, 200))
			gaps := uint64(0)
			switch name {
			case "twice", "without a word", "without the end": // another one at once, for a file that is being written to, is of no use
				gaps = 1
			}
			f.want(t, "unsupported_file", 0, gaps)
			if f.s.Lag(time.Now()); f.s.FallbackFiles() == 0 {
				t.Error("the source does not say that it reads through journalctl")
			}
			if all := f.s.Reader().Fallbacks(); len(all) != 1 || all[0].Err != nil {
				t.Errorf("%+v", all)
			}
		})
	}
}

func TestFallbackThatNeverWorksIsAGap(t *testing.T) {
	for name, command := range map[string]string{
		"not there":   filepath.Join(t.TempDir(), "journalctl"),
		"refuses too": "journalctl",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			segmented := newTiny(1, true).fill("s", 3)
			segmented.b[12] |= futureFlag
			writeFile(t, filepath.Join(dir, "s.journal"), segmented.b)
			writeFile(t, filepath.Join(dir, "x.journal"), newTiny(2, true).fill("x", 3).b)
			var g gaps
			var log bytes.Buffer
			r := open(t, journal.Options{Places: []journal.Place{{Root: dir}}, OnGap: g.add, Log: logTo(&log), Journalctl: command})
			equalMessages(t, messages(r), numbered("x", 0, 3))
			for range 3 {
				r.Look()
				equalMessages(t, messages(r), nil)
			}
			r.SeekTail()
			equalMessages(t, messages(r), nil)
			g.want(t, "unsupported_file", 0, 1)
			if !strings.Contains(log.String(), "0x20") || strings.Count(log.String(), "cannot be read") != 1 {
				t.Errorf("log: %s", log.String())
			}
			if all := r.Fallbacks(); command == "journalctl" && (len(all) != 1 || all[0].Err == nil) {
				t.Errorf("%+v", all)
			}
		})
	}
}
