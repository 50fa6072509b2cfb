package filetail

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidecar/internal/record"
)

// FuzzRewind gives a Source a position that another wrote, or a disk damaged. Either it
// is refused, or every file is read from some place on, and the position that comes of
// it is taken again.
func FuzzRewind(f *testing.F) {
	dir := f.TempDir()
	for name, text := range map[string]string{"a.log": strings.Repeat("a line\n", 300), "a.log.1": "older\n", "b.log": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	options := Options{Paths: []string{filepath.Join(dir, "*")}, Head: true, Log: slog.New(slog.DiscardHandler)}
	position := func(t testing.TB, raw []byte) []byte {
		s, err := New(options)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Rewind(raw); err != nil {
			return nil
		}
		now := time.Now()
		s.o.Now = func() time.Time { now = now.Add(time.Second); return now }
		var e record.Entry
		for range 500 {
			if ok, err := s.Next(&e); err != nil {
				t.Fatal(err)
			} else if ok && len(e.ID) == 0 {
				t.Fatalf("line %q has no ID", e.Message)
			}
		}
		if s.Idle(now) == 0 {
			t.Fatal("the source never comes to rest")
		}
		p, err := s.Position(nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(strings.ReplaceAll(string(position(f, []byte(`{}`))), dir, "/tmp")))
	f.Add([]byte(`{"files":[{"serial":1,"path":"/a.log","dev":"1","inode":"2","size":9,"modified":1,"head":"ffffffffffffffff","head_bytes":1024,"offset":9223372036854775807,"tail":"1","tail_bytes":64,"skip":true,"gone":1}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = []byte(strings.ReplaceAll(string(raw), "/tmp", dir))
		p := position(t, raw)
		if p == nil {
			return
		}
		if !json.Valid(p) || position(t, p) == nil {
			t.Fatalf("position %s is not taken back", p)
		}
	})
}

// MarshalText is what encoding/json writes a number of 64 bits with.
func (h hex64) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%x", uint64(h)), nil }

// FuzzEntry: an entry is written as encoding/json writes it.
func FuzzEntry(f *testing.F) {
	f.Add(uint64(1), uint64(0), "", "/a.log", int64(0), int64(0), false)
	f.Add(uint64(9), uint64(1)<<63, "b.log", "/a/\"\\<ż\xff.log", int64(7), int64(-1), true)
	f.Fuzz(func(t *testing.T, serial, hex uint64, name, path string, n, usec int64, is bool) {
		h := hex64(hex)
		for _, e := range []entry{
			{Serial: serial, ID: h, Salt: h + 1, Name: name, Path: path, Dev: h + 2, Inode: h + 3, Size: n, ModifiedUsec: usec, Head: h + 4, HeadBytes: int(n + 1),
				Offset: n + 2, Tail: h + 5, TailBytes: int(n + 3), Skip: is, End: !is, GoneUsec: usec + 1},
			{Serial: serial, Path: path},
		} {
			want, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.append(nil); err != nil || string(got) != string(want) {
				t.Errorf("%v\n got %s\nwant %s", err, got, want)
			}
		}
	})
}
