package promproto

import (
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"sidecar/internal/promtext"
)

// ContentType is the value of the header of an answer.
const ContentType = string(expfmt.FmtProtoDelim)

// Is reports whether the header of an answer names the format that a Target reads.
func Is(contentType string) bool {
	media, parameters, err := mime.ParseMediaType(contentType)
	encoding, given := parameters["encoding"]
	return err == nil && media == expfmt.ProtoType && parameters["proto"] == expfmt.ProtoProtocol && (!given || encoding == "delimited")
}

// Target reads the pages of protobuf of one target, and keeps of the last one what text
// has no words for. Different targets may be read at the same time.
type Target struct {
	text    *promtext.Target
	options promtext.Options
	bytes   int64 // of a page

	series map[string]extra // by key
	native []string         // families with native histograms
	needed bool
}

// extra is a series that has what text cannot say.
type extra struct {
	kind   dto.MetricType
	metric *dto.Metric
}

// NewTarget returns a target without a page. What its pages say in text goes to text, which
// was made with the same options.
func NewTarget(o promtext.Options, text *promtext.Target) *Target {
	if o.Limits.PageBytes == 0 {
		o.Limits.PageBytes = promtext.DefaultLimits().PageBytes
	}
	return &Target{text: text, options: o, bytes: o.Limits.PageBytes}
}

// Read makes page, messages with their lengths before them, the page of t and of its
// promtext.Target. page is not kept.
//
// A page counts as the largest of its own bytes, those of its text, and 32 for each message
// in it, against Limits.PageBytes; and room is asked for as many before they are needed.
// With an error neither target has a page. It is that of room, or a
// *promtext.RefusedError; Report.Counts has what was found.
func (t *Target) Read(page []byte, room func(size int) error) (promtext.Report, error) {
	t.Clear()
	text := &bounded{limit: t.bytes, room: room}
	var r promtext.Report
	err := t.split(page, text, &r)
	if err == nil {
		var read promtext.Report
		read, err = t.text.Read(text.page, promtext.Text)
		for reason, n := range r.Counts {
			read.Counts[reason] += n
		}
		r = read
	}
	if err != nil {
		t.Clear()
		t.text.Clear()
		return r, err
	}
	t.needed = t.needed || len(t.series) > 0
	return r, nil
}

// Clear takes the page from t, as when its target was not read or answered with text.
func (t *Target) Clear() { t.series, t.native = nil, nil }

// Needed reports whether some page so far had what text cannot say. Prometheus gives
// series other labels when they come as protobuf (le="1.0" for le="1"), so what was answered
// as protobuf once had better stay so while the target is away.
func (t *Target) Needed() bool { return t.needed }

// Native returns the names of families with native histograms, for
// promtext.Summer.Native. The slice is not changed later.
func (t *Target) Native() []string { return t.native }

// split writes what page says to text, and keeps what text cannot say.
func (t *Target) split(page []byte, text *bounded, r *promtext.Report) error {
	budget := int(t.bytes / messageBytes)
	messages := 0
	for len(page) > 0 {
		message, n := protowire.ConsumeBytes(page)
		if n < 0 {
			r.Counts[promtext.Truncated]++
			return &promtext.RefusedError{Reason: promtext.Truncated}
		}
		page = page[n:]
		var ok bool
		if messages, ok = count(message, family, messages, budget); !ok {
			reason := promtext.Syntax
			if messages > budget {
				reason = promtext.TooManyBytes
			}
			r.Counts[reason]++
			return &promtext.RefusedError{Reason: reason}
		}
		if err := text.room(messages * messageBytes); err != nil {
			return err
		}
		f := new(dto.MetricFamily)
		if err := (proto.UnmarshalOptions{DiscardUnknown: true, AllowPartial: true}).Unmarshal(message, f); err != nil {
			r.Counts[promtext.Syntax]++
			return &promtext.RefusedError{Reason: promtext.Syntax}
		}
		if err := t.take(f, text, r); err != nil {
			return err
		}
	}
	return nil
}

// take takes a family.
func (t *Target) take(f *dto.MetricFamily, text *bounded, r *promtext.Report) error {
	var refused error
	f.Metric = slices.DeleteFunc(f.Metric, func(m *dto.Metric) bool {
		reason, ok := check(f.GetType(), m)
		if !ok {
			r.Counts[reason]++
			if refused == nil && !t.options.Lenient {
				refused = refuse(f, reason)
			}
		}
		return !ok
	})
	if refused != nil || len(f.Metric) == 0 {
		return refused
	}
	was := len(text.page)
	if _, err := expfmt.MetricFamilyToText(text, f); err != nil {
		switch {
		case errors.Is(err, errTooLong):
			r.Counts[promtext.TooManyBytes]++
			return &promtext.RefusedError{Reason: promtext.TooManyBytes}
		case text.err != nil:
			return text.err
		}
		// No name, or a type that there is not.
		r.Counts[promtext.BadType]++
		if !t.options.Lenient {
			return refuse(f, promtext.BadType)
		}
		text.page = text.page[:was]
		return nil
	}
	t.keep(f)
	return nil
}

func refuse(f *dto.MetricFamily, reason promtext.Reason) error {
	name := f.GetName()
	return &promtext.RefusedError{Reason: reason, Text: name[:min(len(name), 64)]}
}

// keep keeps what text cannot say of a family.
func (t *Target) keep(f *dto.MetricFamily) {
	native := false
	for _, m := range f.Metric {
		isNative := isNative(m.GetHistogram())
		native = native || isNative
		if !isNative && !hasExemplar(m) {
			continue
		}
		if t.series == nil {
			t.series = map[string]extra{}
		}
		// The first one wins, as in text.
		k := key(f.GetName(), t.labelled(m.Label))
		if _, ok := t.series[k]; !ok {
			t.series[k] = extra{f.GetType(), m}
		}
	}
	if native && !slices.Contains(t.native, f.GetName()) {
		t.native = append(slices.Clip(t.native), f.GetName())
	}
}

// labelled returns labels as promtext writes them, with those that are put in.
func (t *Target) labelled(labels []*dto.LabelPair) []*dto.LabelPair {
	out := []*dto.LabelPair{pair("app", t.options.App)}
	if t.options.Worker != "" {
		out = append(out, pair("worker", t.options.Worker))
	}
	for _, l := range labels {
		name := l.GetName()
		if name == "app" || name == "worker" {
			name = "exported_" + name
		}
		out = append(out, &dto.LabelPair{Name: &name, Value: l.Value})
	}
	return out
}

func pair(name, value string) *dto.LabelPair {
	value = strings.ToValidUTF8(value, "\uFFFD")
	return &dto.LabelPair{Name: &name, Value: &value}
}

// key returns a text that only the same series has.
func key(name string, labels []*dto.LabelPair) string {
	labels = slices.Clone(labels)
	slices.SortFunc(labels, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	b := []byte(name)
	for _, l := range labels {
		b = fmt.Appendf(b, "\xff%s\xff%s", l.GetName(), l.GetValue()) // no part of UTF-8
	}
	return string(b)
}

// bounded is a text in the making.
type bounded struct {
	page  []byte
	limit int64
	room  func(size int) error
	err   error // of room
}

var errTooLong = errors.New("the text is longer than a page may be")

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(b.page)+len(p)) > b.limit {
		return 0, errTooLong
	}
	if b.err = b.room(len(b.page) + len(p)); b.err != nil {
		return 0, b.err
	}
	b.page = append(b.page, p...)
	return len(p), nil
}
