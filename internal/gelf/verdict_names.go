package gelf

import "strings"

// judgeReserved reports names that the decoder skips always.
func judgeReserved(name string) bool {
	switch name {
	case "_id", "_ttl", "_source", "_all", "_index", "_type", "_score":
		return true
	}
	return false
}

// judgeOverwritten reports fields that Graylog sets itself after decoding.
func judgeOverwritten(name string) bool {
	switch name {
	case "streams", "gl2_accounted_message_size", "gl2_processing_timestamp", "gl2_receive_timestamp":
		return true
	}
	return strings.HasPrefix(name, "gl2_source_") || strings.HasPrefix(name, "gl2_remote_")
}

// judgeValidKey reports whether all characters are of [A-Za-z0-9_.@-].
func judgeValidKey(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("_.@-", c) >= 0 {
			continue
		}
		return false
	}
	return true
}
