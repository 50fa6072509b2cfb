package promtext

import "fmt"

// Reason says what is wrong with a line, or with a page.
type Reason uint8

const (
	// Syntax is a line that is not of the format.
	Syntax Reason = iota
	// Truncated is a last line that ends in the middle: it has no newline and is
	// not valid.
	Truncated
	// NoNewline is a valid last line without a newline. It is kept, and counted.
	NoNewline
	// NoEOF is a page of OpenMetrics that does not end with "# EOF", or goes on
	// behind it.
	NoEOF
	// CarriageReturn is a line that ends with CR LF.
	CarriageReturn
	// BadUTF8 is a label value or a HELP text that is not UTF-8.
	BadUTF8
	// BadNumber is a value or timestamp that is no number, or one that no float64
	// can hold.
	BadNumber
	// BadType is a TYPE that the format does not know, or a UNIT that is not the end
	// of the name.
	BadType
	// Quoted is a name in quotes.
	Quoted
	// Reserved is a name that begins with healthd_ (or, as a label, __name__).
	Reserved
	// DuplicateLabel is a label that a series has twice.
	DuplicateLabel
	// LabelCollision is a label that cannot be renamed, as exported_… is there too.
	LabelCollision
	// DuplicateSeries is a series that the page had before. The first one is kept,
	// in strict mode too: Prometheus does the same.
	DuplicateSeries
	// TypeConflict is a TYPE line for a family that has another type already, or
	// samples. It is left out, in strict mode too: Prometheus takes it.
	TypeConflict
	// TooManyBytes is a page above Limits.PageBytes. It is refused in any case.
	TooManyBytes
	// TooManySeries is a series above Limits.Series.
	TooManySeries
	// TooManyNew is a series above Limits.NewSeries.
	TooManyNew
	// TooManyLabels is a series with more than Limits.Labels.
	TooManyLabels
	// NameTooLong is a name of a metric or label above Limits.NameBytes.
	NameTooLong
	// ValueTooLong is a label value or HELP text above Limits.ValueBytes.
	ValueTooLong
	// BadHistogram is a native histogram, which only protobuf has, with buckets that
	// contradict each other or the count.
	BadHistogram

	// Reasons is how many there are.
	Reasons
)

// String returns the reason as the value of a label of metrics: "syntax",
// "duplicate_label", …
func (r Reason) String() string {
	return [Reasons]string{
		Syntax: "syntax", Truncated: "truncated", NoNewline: "no_newline", NoEOF: "no_eof", CarriageReturn: "crlf", BadUTF8: "utf8",
		BadNumber: "number", BadType: "type", Quoted: "quoted_name", Reserved: "reserved_name", DuplicateLabel: "duplicate_label",
		LabelCollision: "label_collision", DuplicateSeries: "duplicate_series", TypeConflict: "type_conflict", TooManyBytes: "limit_bytes", TooManySeries: "limit_series",
		TooManyNew: "limit_new_series", TooManyLabels: "limit_labels", NameTooLong: "limit_name", ValueTooLong: "limit_value", BadHistogram: "histogram",
	}[r]
}

// RefusedError is why a page was refused.
type RefusedError struct {
	Line   int // from 1; 0 if it is about the page
	Reason Reason
	Text   string // of the line, cut to 64 bytes; without a line the name of a family, or nothing
}

// Error returns the reason, and the line or family where there is one.
func (e *RefusedError) Error() string {
	if e.Line == 0 && e.Text != "" {
		return fmt.Sprintf("read family %q: %s", e.Text, e.Reason)
	}
	if e.Line == 0 {
		return fmt.Sprintf("read page: %s", e.Reason)
	}
	return fmt.Sprintf("read line %d %q: %s", e.Line, e.Text, e.Reason)
}

// Limits bound what one target can do to the whole page. Zero values are those of
// DefaultLimits.
type Limits struct {
	PageBytes  int64 // of a page, at most 1 GiB
	Series     int   // of a page
	NewSeries  int   // of a page that were not in the last one that was read; the first page is exempt
	Labels     int   // of a series, without those that are put in
	NameBytes  int   // of a name of a metric or label
	ValueBytes int   // of a label value, and of a HELP text
}

// DefaultLimits returns the limits that targets have by default: 64 MiB, 200,000
// series, all of them new, 64 labels, names of 256 bytes, values of 4 KiB.
func DefaultLimits() Limits {
	return Limits{PageBytes: 64 << 20, Series: 200_000, NewSeries: 200_000, Labels: 64, NameBytes: 256, ValueBytes: 4096}
}

// filled returns l with the default for what is zero.
func (l Limits) filled() Limits {
	d := DefaultLimits()
	for _, v := range []struct{ value, otherwise *int }{
		{&l.Series, &d.Series}, {&l.NewSeries, &d.NewSeries}, {&l.Labels, &d.Labels}, {&l.NameBytes, &d.NameBytes}, {&l.ValueBytes, &d.ValueBytes},
	} {
		if *v.value == 0 {
			*v.value = *v.otherwise
		}
	}
	if l.PageBytes == 0 {
		l.PageBytes = d.PageBytes
	}
	l.PageBytes = min(l.PageBytes, maxPageBytes)
	return l
}

// maxPageBytes keeps what a memo has of a page within 32-bit offsets: labels are put
// into lines of at least four bytes.
const maxPageBytes = 1 << 30
