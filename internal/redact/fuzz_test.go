package redact

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"sidecar/internal/gelf"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// planted is a text that no rule but the one of what stands around it knows.
const planted = "Zq7vXyW4Kp2mNb8Tr3"

// plants are the ways in which FuzzRedact hides it.
var plants = []string{
	"password=" + planted,
	"PGPASSWORD: " + planted,
	`{"password":"` + planted + `"}`,
	`{\"client_secret\":\"` + planted + `\"}`,
	`{\\\"apiKey\\\":\\\"` + planted + `\\\"}`,
	`{"p\u0061ssword":"` + planted + `"}`,
	"Authorization: Bearer " + planted,
	"Bearer " + planted,
	"postgres://app:" + planted + "@db/shop",
	"GET /a?token=" + planted + "&lang=en",
	"GET /app;jsessionid=" + planted + " 200",
	"eyJhbGciOiJIUzI1NiJ9." + planted + "." + planted,
	"-----BEGIN PRIVATE KEY-----\n" + planted + "\n-----END PRIVATE KEY-----",
	"sk_live_" + planted,
	"--db-password " + planted,
	"Cookie: theme=dark; sid=" + planted,
}

// FuzzRedact checks that a secret is found whatever stands around it, and that
// nothing else happens to a text.
func FuzzRedact(f *testing.F) {
	lines, cases := parsetest.Corpus()
	for i, c := range cases {
		if line := string(lines[c.N-1]); len(line) < 1000 && (len(c.Secrets) > 0 || i%16 == 0) {
			f.Add(line[:len(line)/2], line[len(line)/2:], byte(i))
		}
	}
	for i := range plants {
		f.Add(`password:"`, `{"token":[`, byte(i))
		f.Add("cookie: a=b; "+strings.Repeat(`\`, i), "\u2026", byte(i))
	}
	r := newRedactor(f, Options{})
	f.Fuzz(func(t *testing.T, before, after string, n byte) {
		if strings.Contains(before+after, planted) {
			return
		}
		text := before + "\n" + plants[int(n)%len(plants)] + "\n" + after
		out := r.AppendText(nil, []byte(text))
		if bytes.Contains(out, []byte(planted)) {
			t.Fatalf("%q becomes %q", text, out)
		}
		if utf8.ValidString(text) && !utf8.Valid(out) {
			t.Fatalf("%q becomes %q, which is not UTF-8", text, out)
		}
		plain := strings.Map(func(c rune) rune {
			if strings.ContainsRune(`=:-_$.JIzbB\`, c) {
				return ' '
			}
			return c
		}, before)
		if out := r.AppendText(nil, []byte(plain)); string(out) != plain {
			t.Fatalf("%q becomes %q", plain, out)
		}
		fuzzRecord(t, r, text, before)
	})
}

// fuzzRecord is the same by way of a record, with the text in all its forms.
func fuzzRecord(t *testing.T, r *Redactor, text, before string) {
	t.Helper()
	if !utf8.ValidString(text) {
		return
	}
	token, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	kept := string(token)
	list, err := json.Marshal([]string{text, before})
	if err != nil {
		t.Fatal(err)
	}
	rec := record.Record{
		Short: record.Value{Kind: record.Quoted, Bytes: token},
		Full:  record.Value{Kind: record.Text, Bytes: []byte(text)},
		Fields: []record.Field{
			{Name: record.NewName("list"), Value: record.Value{Kind: record.Text, Bytes: list}},
			{Name: record.NewName("db_password"), Value: record.Value{Kind: record.Quoted, Bytes: token}},
		},
	}
	r.Apply(&rec)
	if string(token) != kept {
		t.Fatalf("%q: the entry was changed", text)
	}
	frame := gelf.Append(nil, &rec, &gelf.Options{})
	if !json.Valid(frame) || bytes.Contains(frame, []byte(planted)) {
		t.Fatalf("%q becomes %s", text, frame)
	}
}
