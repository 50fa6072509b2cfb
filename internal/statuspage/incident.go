package statuspage

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says what an incident is.
type Kind string

// The kinds of incidents.
const (
	Outage      Kind = "outage"
	Degradation Kind = "degradation"
	Works       Kind = "maintenance"
	Notice      Kind = "notice"
)

const (
	maxIncidentBytes = 64 << 10
	maxIncidents     = 500
	maxTitle         = 200
	incidentEnd      = ".md"
	timeForm         = "2006-01-02 15:04"
)

// Incident is a note that an operator has written for everybody. It is a file like
//
//	title: Payments were delayed
//	started: 2026-11-20 14:05
//	ended: 2026-11-20 15:10
//	kind: degradation
//	affects: Payments, Shop
//	---
//	Any **Markdown**.
//
// Times are in UTC. Without ended the incident goes on; with started in the future it is
// announced. Kind is outage (the default), degradation, maintenance or notice. Immutable.
type Incident struct {
	// Name is that of the file, without .md: part of its address.
	Name string
	// Title is one line of text.
	Title string
	// Started and Ended are in UTC. Ended is zero while the incident goes on.
	Started, Ended time.Time
	// Kind is what it is.
	Kind Kind
	// Affects are public names, as the operator wrote them. May be empty.
	Affects []string
	// Body is safe HTML made of the Markdown.
	Body template.HTML
}

// Ongoing reports whether the incident has not ended at that time. What has not begun
// is on too: it is announced.
func (in *Incident) Ongoing(now time.Time) bool { return in.Ended.IsZero() || in.Ended.After(now) }

// Updated returns when something was last known to happen: the end, or the start.
func (in *Incident) Updated() time.Time {
	if in.Ended.IsZero() {
		return in.Started
	}
	return in.Ended
}

// ReadIncidents reads all files *.md of a directory, newest first, at most 500 of at
// most 64 KiB, those with the greatest names. What is wrong with a file, which is left out, is one of the
// errors. A directory that does not exist is one without incidents.
func ReadIncidents(dir fs.FS) (all []*Incident, problems []error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		problems = append(problems, fmt.Errorf("read incidents: %w", err))
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return !strings.HasSuffix(e.Name(), incidentEnd) || strings.HasPrefix(e.Name(), ".") || !e.Type().IsRegular()
	})
	if n := len(entries) - maxIncidents; n > 0 {
		problems = append(problems, fmt.Errorf("read incidents: %d files, the %d with the least names are left out", len(entries), n))
		entries = entries[n:]
	}
	for _, e := range entries {
		in, err := readIncident(dir, e.Name())
		if err != nil {
			problems = append(problems, fmt.Errorf("read incident %s: %w", e.Name(), err))
			continue
		}
		all = append(all, in)
	}
	slices.SortStableFunc(all, func(a, b *Incident) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.Name, a.Name))
	})
	return all, problems
}

func readIncident(dir fs.FS, name string) (*Incident, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxIncidentBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxIncidentBytes {
		return nil, fmt.Errorf("more than %d bytes", maxIncidentBytes)
	}
	return parseIncident(strings.TrimSuffix(name, incidentEnd), string(b))
}

// parseIncident reads a file; Incident says what is in it.
func parseIncident(name, text string) (*Incident, error) {
	if !isName(name) {
		return nil, errors.New("want a name of letters, digits, - and _, which will be in its address")
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("not UTF-8")
	}
	in := &Incident{Name: name, Kind: Outage}
	text = strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n")
	text = strings.TrimPrefix(text, "---\n") // as other tools write it
	for number := 1; ; number++ {
		line, rest, more := strings.Cut(text, "\n")
		text = rest
		if strings.TrimRight(line, " ") == "---" {
			break
		}
		if err := in.set(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if !more {
			return nil, errors.New(`want a line "---" between the head and the text`)
		}
	}
	switch {
	case in.Title == "":
		return nil, errors.New("want a title")
	case in.Started.IsZero():
		return nil, errors.New("want the time at which it started")
	case !in.Ended.IsZero() && in.Ended.Before(in.Started):
		return nil, errors.New("ended before it started")
	}
	var err error
	in.Body, err = markdown(text)
	return in, err
}

// set takes one line of the head.
func (in *Incident) set(line string) (err error) {
	if strings.TrimSpace(line) == "" {
		return nil
	}
	key, value, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("want key: value, found %.64q", line)
	}
	value = strings.TrimSpace(value)
	switch key = strings.TrimSpace(key); key {
	case "title":
		if len(value) > maxTitle {
			return fmt.Errorf("title: more than %d bytes", maxTitle)
		}
		in.Title = value
	case "started":
		in.Started, err = parseTime(value)
	case "ended":
		if value != "" {
			in.Ended, err = parseTime(value)
		}
	case "kind":
		in.Kind = Kind(value)
		if !slices.Contains([]Kind{Outage, Degradation, Works, Notice}, in.Kind) {
			err = fmt.Errorf("%.64q: want outage, degradation, maintenance or notice", value)
		}
	case "affects":
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part != "" {
				in.Affects = append(in.Affects, part)
			}
		}
	default:
		return fmt.Errorf("%.64q: want title, started, ended, kind or affects", key)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// parseTime reads a time in UTC, or with a zone.
func parseTime(text string) (time.Time, error) {
	for _, form := range []string{timeForm, time.DateTime, time.RFC3339, "2006-01-02 15:04 UTC", "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(form, text); err == nil && t.Year() >= 1970 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.64q: want a time in UTC such as 2026-11-20 14:05", text)
}

func isName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return name != "" && len(name) <= 100
}
