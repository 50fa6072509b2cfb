package syslog

import (
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/leodido/go-syslog/v4"
	oracle3164 "github.com/leodido/go-syslog/v4/rfc3164"
	oracle5424 "github.com/leodido/go-syslog/v4/rfc5424"

	"sidecar/internal/header"
	"sidecar/internal/record"
)

func seedMessages(f *testing.F) {
	for _, s := range []string{message5424, message3164,
		"<165>1 2026-11-17T08:15:30.003Z host evntslog - ID47 [x@1 iut=\"3\" y=\"a \\\"q\\\" \\] b\"][y@1 z=\"]\"] \xef\xbb\xbfAn event",
		"<0>1 - - - - - -", "<13>1 - h a 1 - - x", "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
		"<13>Feb  9 22:14:15 h su[12]: x", "<13>2026-11-17T08:15:30+01:00 h t: x", "<14>a: b", "<191>x", "<34>Oct 11 22:14:15 h 1122:1"} {
		f.Add(s)
	}
}

// theirs is what go-syslog says of what both know.
func theirs(b syslog.Base, offset time.Duration) (d decoded) {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	d = decoded{Host: text(b.Hostname), App: text(b.Appname), PID: text(b.ProcID), Message: text(b.Message)}
	d.MsgID = text(b.MsgID)
	d.Severity, d.Facility = int8(*b.Severity), strconv.Itoa(int(*b.Facility))
	if b.Timestamp != nil {
		d.Time = b.Timestamp.Add(offset).UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	}
	return d
}

// ours decodes a message that is received at the time that is in it.
func ours(message string, at *time.Time) decoded {
	e := record.Entry{Message: []byte(message), Priority: -1}
	if at != nil {
		e.TimeUsec = at.UnixMicro()
	}
	d := Decoder{Zone: time.UTC}
	d.Decode(&e)
	got := decoded{Host: string(e.Host), App: string(e.Identifier), PID: string(e.PID), MsgID: string(e.MsgID), Message: string(e.Message), Severity: e.Priority, Facility: string(e.Facility)}
	if at != nil {
		got.Time = time.UnixMicro(e.TimeUsec).UTC().Format(time.RFC3339Nano)
	}
	return got
}

// FuzzAgainstGoSyslog5424: what go-syslog takes for RFC 5424 we read alike, but that
// we leave out
//   - what ends the message (LF, CR, NUL), a BOM, and a blank in front of it, if there
//     is no structured data;
//   - times before 1970.
func FuzzAgainstGoSyslog5424(f *testing.F) {
	seedMessages(f)
	p := oracle5424.NewParser()
	f.Fuzz(func(t *testing.T, in string) {
		in = string(trimEnd([]byte(in)))
		parsed, err := p.Parse([]byte(in))
		if err != nil || parsed == nil || !utf8.ValidString(in) {
			return
		}
		m, ok := parsed.(*oracle5424.SyslogMessage)
		if !ok || m.Version != 1 || m.Timestamp != nil && m.Timestamp.UnixMicro() <= 0 {
			return
		}
		want := theirs(m.Base, 0)
		if m.StructuredData == nil {
			want.Message = strings.TrimPrefix(want.Message, " ")
		}
		want.Message = strings.TrimPrefix(want.Message, "\ufeff")
		if got := ours(in, m.Timestamp); got != want {
			t.Errorf("%q\n got %+v\nwant %+v", in, got, want)
		}
		params, repeated := structured(t, in)
		if m.StructuredData == nil {
			m.StructuredData = &map[string]map[string]string{}
		}
		if diff := cmp.Diff(*m.StructuredData, params, cmpopts.EquateEmpty()); diff != "" && !repeated {
			t.Errorf("%q: structured data: (-want +got)\n%s", in, diff)
		}
	})
}

// structured returns the structured data of a message as go-syslog does, and whether it
// has a parameter or an element twice, of which go-syslog knows one.
func structured(t *testing.T, message string) (data map[string]map[string]string, repeated bool) {
	t.Helper()
	e := record.Entry{Message: []byte(message)}
	(&Decoder{}).Decode(&e)
	data = map[string]map[string]string{}
	for id, params, rest, ok := header.NextElement(e.StructuredData); ok; id, params, rest, ok = header.NextElement(rest) {
		element := map[string]string{}
		repeated = repeated || data[string(id)] != nil
		data[string(id)] = element
		name, value, params, ok := header.NextParam(params)
		for ; ok; name, value, params, ok = header.NextParam(params) {
			_, again := element[string(name)]
			repeated = repeated || again
			element[string(name)] = string(header.AppendValue(nil, value))
		}
		if len(params) > 0 {
			t.Errorf("%q: %q is no parameter", message, params)
		}
	}
	return data, repeated
}

// FuzzAgainstGoSyslog3164: what go-syslog takes for RFC 3164 with a host and a tag we
// read alike, with the exceptions above and these, where senders are not served by
// the letter:
//   - a tag has to be a name, with its bracket closed: otherwise it stays in the message;
//   - "app[proc] " is a tag without a colon: so rsyslog writes RFC 5424 as RFC 3164;
//   - in front of some messages without a letter at their beginning go-syslog keeps the
//     tag, or what is in its brackets;
//   - what looks like a tag in the place of the host is one (libc writes none);
//   - control characters, of which go-syslog loses the first behind a tag.
func FuzzAgainstGoSyslog3164(f *testing.F) {
	seedMessages(f)
	p := oracle3164.NewParser(oracle3164.WithYear(oracle3164.Year{YYYY: 2024}))
	f.Fuzz(func(t *testing.T, in string) {
		in = string(trimEnd([]byte(in)))
		parsed, err := p.Parse([]byte(in))
		if err != nil || parsed == nil || !utf8.ValidString(in) || strings.ContainsFunc(in, unicode.IsControl) {
			return
		}
		m, ok := parsed.(*oracle3164.SyslogMessage)
		if !ok || m.Timestamp == nil || m.Hostname == nil || m.Appname == nil || m.Message == nil {
			return
		}
		if named := ours("<1>2026-11-17T08:15:30Z "+*m.Hostname+" "+*m.Appname+": ", nil); named.Host != *m.Hostname || named.App != *m.Appname {
			return
		}
		want := theirs(m.Base, 0)
		want.Message = strings.TrimPrefix(want.Message, "\ufeff")
		got := ours(in, m.Timestamp)
		if got.Message == "" || want.Message == want.App+":"+got.Message || want.Message == want.PID+"]:"+got.Message {
			want.Message = got.Message
		}
		colon := strings.Contains(in, want.App+":") || strings.Contains(in, "]:")
		if got.App == "" && strings.HasSuffix(got.Message, want.Message) || !colon {
			return
		}
		if got != want {
			t.Errorf("%q\n got %+v\nwant %+v", in, got, want)
		}
	})
}

// FuzzDecode: every input is an entry, whose message is the end of the input.
func FuzzDecode(f *testing.F) {
	seedMessages(f)
	f.Fuzz(func(t *testing.T, in string) {
		got := ours(in, nil)
		end := string(trimEnd([]byte(in)))
		if len(got.Message) > len(end) || end[len(end)-len(got.Message):] != got.Message {
			t.Errorf("%q gives %q", in, got.Message)
		}
		if got.Severity < -1 || got.Severity > 7 {
			t.Errorf("%q has severity %d", in, got.Severity)
		}
	})
}
