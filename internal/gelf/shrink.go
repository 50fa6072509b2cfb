package gelf

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"sidecar/internal/record"
)

// Shrink appends doc, a document that Append made, to dst, cut to maxBytes in the
// way of Append (Graylog rule R13), and returns dst. It is for outputs whose
// receiver takes less than the frame limit says.
//
// An error says that maxBytes is less than the 8 KiB that Append can always keep
// to, or that doc is none of Append's; dst is unchanged then. doc is not changed.
func Shrink(dst, doc []byte, maxBytes int) ([]byte, error) {
	if maxBytes < minFrameBytes {
		return dst, fmt.Errorf("shorten message of %d bytes to %d: fewer than %d", len(doc), maxBytes, minFrameBytes)
	}
	r, err := readDocument(doc)
	if err != nil {
		return dst, fmt.Errorf("shorten message: %w", err)
	}
	return Append(dst, &r, &Options{MaxFrameBytes: maxBytes}), nil
}

// readDocument returns the record that doc was made of; static fields are fields of it.
func readDocument(doc []byte) (r record.Record, err error) {
	top, second, err := readJSONDocument(doc)
	switch {
	case err != nil:
		return r, err
	case second || top.kind != jsonObject:
		return r, fmt.Errorf("document beginning with %.64q is not one object", doc)
	}
	for _, m := range top.members {
		v := record.Value{Kind: record.Text, Bytes: []byte(m.value.text)}
		switch m.value.kind {
		case jsonString:
		case jsonInteger, jsonFloat:
			v.Kind = record.Number
		default:
			return r, fmt.Errorf("member %.64q is neither a string nor a number", m.key)
		}
		if err := setMember(&r, m.key, v); err != nil {
			return r, fmt.Errorf("read member %.64q: %w", m.key, err)
		}
	}
	return r, nil
}

// setMember sets what the member key of a document stands for.
func setMember(r *record.Record, key string, v record.Value) (err error) {
	switch key {
	case "version":
	case "host":
		r.Host = v.Bytes
	case "short_message":
		r.Short = v
	case "full_message":
		r.Full = v
	case "timestamp":
		var seconds float64
		seconds, err = strconv.ParseFloat(string(v.Bytes), 64)
		r.TimeUsec = int64(math.Round(seconds*1e3)) * 1e3 // Append keeps milliseconds
	case "level":
		var level uint64
		level, err = strconv.ParseUint(string(v.Bytes), 10, 8)
		r.Level = uint8(level)
	case "_event_id":
		r.ID = v.Bytes
	case "_seq":
		r.Seq, err = strconv.ParseUint(string(v.Bytes), 10, 64)
	default:
		name, additional := strings.CutPrefix(key, "_")
		if !additional || name == "" {
			return errors.New("unknown name")
		}
		r.Fields = append(r.Fields, record.Field{Name: record.NewName(name), Value: v})
	}
	return err
}
