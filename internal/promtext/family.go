package promtext

// kind is the type of a metric family.
type kind uint8

const (
	untyped kind = iota
	counter
	gauge
	histogram
	summary
	gaugeHistogram
	info
	stateSet
	kinds
)

// String returns the type in the words of the text format, and of OpenMetrics where
// text has none.
func (k kind) String() string {
	return [kinds]string{"untyped", "counter", "gauge", "histogram", "summary", "gaugehistogram", "info", "stateset"}[k]
}

// word returns the type as a TYPE line of the format has it.
func (k kind) word(f Format) string {
	if k == untyped && f == OpenMetrics {
		return "unknown"
	}
	return k.String()
}

// parseKind reads the word of a TYPE line.
func parseKind(word []byte, f Format) (kind, bool) {
	last := stateSet
	if f == Text {
		last = summary
	}
	for k := untyped; k <= last; k++ {
		if string(word) == k.word(f) {
			return k, true
		}
	}
	return 0, false
}

// suffixes of the names of samples in a family of a type. A sample may also have the
// name of the family itself.
func (k kind) suffixes(f Format) []string {
	switch {
	case k == histogram && f == Text:
		return textHistogram
	case k == summary && f == Text:
		return textSummary
	case f == Text:
		return nil
	}
	return openMetricsSuffixes[k]
}

// Tables: composite types have samples whose names are not that of the family. The
// lines of _created have a family of their own in text.
var (
	textHistogram       = []string{"_bucket", "_sum", "_count"}
	textSummary         = []string{"_sum", "_count"}
	openMetricsSuffixes = [kinds][]string{
		counter:        {"_total", "_created"},
		histogram:      {"_bucket", "_sum", "_count", "_created"},
		summary:        {"_sum", "_count", "_created"},
		gaugeHistogram: {"_bucket", "_gsum", "_gcount"},
		info:           {"_info"},
	}
	anySuffix = []string{"_bucket", "_sum", "_count", "_total", "_created", "_gsum", "_gcount", "_info"}
)

// family is a metric family of a page.
type family struct {
	name   string
	kind   kind
	typed  bool   // there was a TYPE line
	helped bool   // there was a HELP line
	help   string // without escapes
	unit   string // of OpenMetrics
	// first and last are its runs, from one to the next by run.next; -1 for none.
	first, last int32
}

// suffix returns what a sample named name has behind the name of the family, if it
// can be one of it.
func (f *family) suffix(name []byte, format Format) (string, bool) {
	if len(name) < len(f.name) || string(name[:len(f.name)]) != f.name {
		return "", false
	}
	rest := name[len(f.name):]
	if len(rest) == 0 {
		return "", true
	}
	for _, suffix := range f.kind.suffixes(format) {
		if string(rest) == suffix {
			return suffix, true
		}
	}
	return "", false
}

// textFamily returns name and type of the family of the text format that a sample of
// f, a family of OpenMetrics, belongs to.
func (f *family) textFamily(suffix string) (name string, k kind) {
	switch {
	case f.kind == counter && suffix == "_total":
		return f.name + suffix, counter
	case suffix == "_created", f.kind == info && suffix == "_info":
		return f.name + suffix, gauge
	case f.kind == gaugeHistogram:
		return f.name + suffix, gauge
	case f.kind == stateSet:
		return f.name, gauge
	case f.kind == histogram, f.kind == summary, f.kind == gauge:
		return f.name, f.kind
	}
	return f.name + suffix, untyped
}

// run is a piece of a page: lines of one family that stand together, or lines that
// are no samples.
type run struct {
	family   int32 // of source.families, -1 for lines that are no samples
	next     int32 // the next run of the family, or -1
	text     int32 // of source.texts
	textNext int32
	first    int32 // of source.lines
	lines    int32 // how many
	tail     int   // in source.tails: where theirs begin
	part     part
	summed   bool // a Summer shows them instead
	// exemplars says that there are some.
	exemplars bool
}

// part says what the lines of a run are in their family.
type part uint8

const (
	plainPart part = iota
	quantilePart
	createdPart
)

// partOf returns the part that a sample has in its family.
func partOf(f *family, suffix string) part {
	switch {
	case f.kind == summary && suffix == "":
		return quantilePart
	case suffix == "_created":
		return createdPart
	}
	return plainPart
}
