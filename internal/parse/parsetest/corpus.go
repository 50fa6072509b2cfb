package parsetest

import (
	"bytes"
	"crypto/sha1"
	_ "embed" // the lines below
	"encoding/hex"
	"encoding/json"
	"math"
	"unicode/utf8"
)

var (
	//go:embed winston.log.gz
	corpusLog string
	//go:embed winston.cases.json.gz
	corpusCases string
)

// Case is what is expected of one line of the corpus.
type Case struct {
	// N is the number of the line, from 1.
	N int
	// Case names the call or the layer that made the line.
	Case string
	// Secrets are the secrets in the line; Decoys are texts in it that look like
	// secrets and are none.
	Secrets []Secret
	Decoys  []string `json:"decoys_not_to_redact"`
	// Expected is what the line becomes.
	Expected Expected
}

// Secret is a secret in a line. With Check "substring" its value may not be
// anywhere in a redacted message.
type Secret struct{ Kind, Value, Check string }

// Expected is what a line becomes: so many messages, 0 for a line that says
// nothing, and their members.
type Expected struct {
	Messages int
	GELF     []Members
}

// Members are members of a GELF message as decoded by encoding/json: those that
// every sane mapping has, and all of the recommended mapping with redaction. A
// long string is an object with its $len in characters and its $sha1.
type Members struct{ Must, Should map[string]any }

// Corpus returns 640 lines as real loggers and the layers below them print them,
// without line ends, and one case for each, in the same order. The caller owns
// them. It panics if the corpus does not unpack.
func Corpus() (lines [][]byte, cases []Case) {
	var doc struct{ Cases []Case }
	if err := json.Unmarshal(unpack(corpusCases), &doc); err != nil {
		panic(err)
	}
	return bytes.Split(bytes.TrimSuffix(unpack(corpusLog), []byte("\n")), []byte("\n")), doc.Cases
}

// Same reports whether the member key of a message, as decoded by encoding/json,
// has the value that a Case wants for the line: long strings by their hash,
// timestamps within 2 ms.
func Same(key string, want, got any, line []byte) bool {
	switch w := want.(type) {
	case float64:
		g, is := got.(float64)
		return is && (g == w || key == "timestamp" && math.Abs(g-w) <= 0.002)
	case map[string]any:
		g, is := got.(string)
		sum := sha1.Sum([]byte(g))
		return is && float64(utf8.RuneCountInString(g)) == w["$len"] && hex.EncodeToString(sum[:]) == w["$sha1"]
	case string:
		if w == "<raw line>" {
			return got == string(line)
		}
	}
	return want == got
}
