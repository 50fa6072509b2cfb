package journal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// headroomFiles are one live and three archived files, of a journal that began
// 1000 seconds before now.
func headroomFiles(now time.Time) []*file {
	first := uint64(now.Add(-1000 * time.Second).UnixMicro())
	var files []*file
	for i := range uint64(4) {
		f := &file{path: "/j/system.journal", place: "/j", n: 100, diskBytes: 1000, header: header{firstUsec: first + i*250_000_000}}
		if i < 3 {
			f.path = fmt.Sprintf("/j/system@%032x-%016x-%016x.journal", 1, i, i)
		}
		files = append(files, f)
	}
	return files
}

func TestHeadroom(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	place := Place{Root: "/j", Retention: Retention{MaxUseBytes: 10_000}}
	for _, c := range []struct {
		name  string
		set   func(files []*file, p *Place)
		want  float64 // seconds; 4000 bytes were written in 1000 s
		known bool
	}{
		{"nothing is read", func([]*file, *Place) {}, 6000 / 4.0, true},
		{"one file is read", func(f []*file, _ *Place) { f[0].index = 100 }, (6000 + 1000) / 4.0, true},
		{"everything is read", func(f []*file, _ *Place) {
			for _, f := range f {
				f.index = 100
			}
		}, (6000 + 3000) / 4.0, true},
		{"part of a file is read", func(f []*file, _ *Place) { f[0].index, f[1].index = 100, 50 }, (6000 + 1000) / 4.0, true},
		{"the journal is full", func(_ []*file, p *Place) { p.Retention.MaxUseBytes = 4000 }, 0, true},
		{"the disk is full", func(_ []*file, p *Place) { p.Retention.KeepFreeBytes = math.MaxInt64 }, 0, true},
		{"removed files do not count", func(f []*file, _ *Place) { f[0].gone = true }, 7000 / 4.0, true},
		{"pinned ones do not either", func(f []*file, _ *Place) { f[0].pinned = true }, 7000 / 4.0, true},
		{"limits are not known", func(_ []*file, p *Place) { p.Retention = Retention{} }, 0, false},
		{"another place", func(_ []*file, p *Place) { p.Root = "/other" }, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := place
			r := &Reader{files: headroomFiles(now), written: map[string]*rate{}}
			c.set(r.files, &p)
			got, ok := r.headroom(p, now)
			if ok != c.known || math.Abs(got.Seconds()-c.want) > 1 {
				t.Errorf("%v, %v; want %v s, %v", got, ok, c.want, c.known)
			}
		})
	}
}

func TestHeadroomFollowsTheRate(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	p := Place{Root: "/j", Retention: Retention{MaxUseBytes: 10_000}}
	r := &Reader{files: headroomFiles(now), written: map[string]*rate{}}
	before, _ := r.headroom(p, now)
	for range 300 { // 40 entries per second, of 10 bytes, a hundred times what it was
		now = now.Add(time.Second)
		r.files[3].n += 40
		r.files[3].diskBytes += 400
		r.headroom(p, now)
	}
	r.files[3].n, r.files[3].diskBytes = 100, 1000 // vacuumed
	r.retired = map[string]uint64{"/j": 300 * 40}
	after, ok := r.headroom(p, now)
	if want := before.Seconds() / 92; !ok || math.Abs(after.Seconds()-want) > 1 {
		t.Errorf("%v after %v, want %v s", after, before, want)
	}
}

func TestLowHeadroomIsLoggedOnce(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	var log bytes.Buffer
	s := &Source{r: &Reader{files: headroomFiles(now), written: map[string]*rate{}}}
	s.r.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.o.Places = []Place{{Root: "/j", Retention: Retention{MaxUseBytes: 10_000}}}
	if _, ok := s.Headroom(); ok {
		t.Error("known before it was estimated")
	}
	for range 3 {
		s.updateHeadroom(now, 30*time.Second) // keeps up
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log.String())
	}
	for range 3 {
		s.updateHeadroom(now, 2*time.Minute)
	}
	if n := strings.Count(log.String(), "will soon remove"); n != 1 {
		t.Errorf("%d warnings: %s", n, log.String())
	}
	if d, ok := s.Headroom(); !ok || d.Round(time.Second) != 1500*time.Second {
		t.Errorf("headroom %v, %v", d, ok)
	}
	s.updateHeadroom(now, 0)
	if n := strings.Count(log.String(), "safe again"); n != 1 {
		t.Errorf("log: %s", log.String())
	}
}

func TestReadsWhatJournaldKeeps(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"etc/systemd/journald.conf":                     "[Journal]\n#SystemMaxUse=1G\nSystemMaxUse=1G\n RuntimeMaxUse = 8M\nSystemKeepFree=2K\n",
		"usr/lib/systemd/journald.conf.d/10-a.conf":     "[Journal]\nSystemMaxUse=2G\nRuntimeKeepFree=77\n",
		"etc/systemd/journald.conf.d/20-b.conf":         "[Journal]\nSystemMaxUse=1.5M\n",
		"run/systemd/journald.conf.d/20-b.conf":         "[Journal]\nSystemMaxUse=9G\n",
		"etc/systemd/journald.conf.d/30-c.conf":         "[Journal]\nSystemMaxUse=infinite\nCompress=yes\n",
		"etc/systemd/journald.conf.d/40-ignored.txt":    "[Journal]\nSystemMaxUse=9G\n",
		"usr/lib/systemd/journald.conf.d/99-empty.conf": "[Journal]\nSystemKeepFree=\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	total, _, err := space(root)
	if err != nil {
		t.Fatal(err)
	}
	got := readRetention(root, Place{Root: filepath.Join(root, "not", "there")})
	if want := (Retention{MaxUseBytes: 3 << 19, KeepFreeBytes: min(total/100*15, 4<<30)}); got != want {
		t.Errorf("system: %+v, want %+v", got, want)
	}
	if got := readRetention(root, Place{Root: root, Volatile: true}); got != (Retention{MaxUseBytes: 8 << 20, KeepFreeBytes: 77}) {
		t.Errorf("runtime: %+v", got)
	}
	if got := readRetention(t.TempDir(), Place{Root: root}); got.MaxUseBytes != min(total/100*10, 4<<30) {
		t.Errorf("without a configuration: %+v", got)
	}
}

func TestExplainsWhyPinsFail(t *testing.T) {
	for want, cause := range map[string]error{
		"CAP_FOWNER": &os.LinkError{Op: "link", Err: syscall.EPERM},
		"CAP_DAC":    &os.LinkError{Op: "mkdir", Err: syscall.EACCES},
		"one mount":  &os.LinkError{Op: "link", Err: syscall.EXDEV},
		"BindPaths":  &os.LinkError{Op: "link", Err: syscall.EROFS},
		"no space":   &os.LinkError{Op: "link", Err: syscall.ENOSPC},
	} {
		if got := explainPin(cause); !strings.Contains(got.Error(), want) || !errors.Is(got, cause) {
			t.Errorf("%v is explained by %q", cause, got)
		}
	}
}
