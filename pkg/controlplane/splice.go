package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// locate finds the bytes of a scalar on one line, quotes included. The YAML library gives a line and a column; it counts
// columns in characters, and knows the line ends of YAML 1.1.
func locate(text []byte, n *yaml.Node) (begin, end int, err error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return 0, 0, errors.New("it is not a plain value")
	case n.Anchor != "":
		return 0, 0, fmt.Errorf("it has the anchor &%s, so other fields may share it", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		return 0, 0, errors.New("it has a tag")
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return 0, 0, errors.New("it is written over several lines")
	case !utf8.Valid(text):
		return 0, 0, errors.New("the manifest is not UTF-8")
	}
	begin = offset(text, n.Line, n.Column)
	rest := text[begin:]
	switch {
	case n.Style&yaml.SingleQuotedStyle != 0:
		end = closing(rest, '\'')
	case n.Style&yaml.DoubleQuotedStyle != 0:
		end = closing(rest, '"')
	case bytes.HasPrefix(rest, []byte(n.Value)):
		end = len(n.Value)
	}
	if end == 0 {
		return 0, 0, errors.New("it could not be found in the text")
	}
	return begin, begin + end, nil
}

// offset turns a line and a column, both counted from 1, into an index.
func offset(text []byte, line, column int) int {
	i := len("\ufeff")
	if !bytes.HasPrefix(text, []byte("\ufeff")) {
		i = 0
	}
	for l := 1; l < line && i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		i += size
		switch r {
		case '\r':
			if i < len(text) && text[i] == '\n' {
				i++
			}
			l++
		case '\n', 0x85, 0x2028, 0x2029:
			l++
		}
	}
	for c := 1; c < column && i < len(text); c++ {
		_, size := utf8.DecodeRune(text[i:])
		i += size
	}
	return i
}

// closing returns the length of the quoted scalar at the beginning of text, or 0 when there is none on its line.
func closing(text []byte, quote byte) int {
	if len(text) == 0 || text[0] != quote {
		return 0
	}
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n' || c == '\r':
			return 0
		case c == '\\' && quote == '"' && i+1 < len(text) && text[i+1] != '\n' && text[i+1] != '\r':
			i++
		case c == quote && quote == '\'' && i+1 < len(text) && text[i+1] == quote:
			i++
		case c == quote:
			return i + 1
		}
	}
	return 0
}

// plainPath matches paths that mean themselves in YAML without quotes, wherever they stand.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._/@%+=-]*$`)

// quoteLike writes a path in the style of the scalar that it replaces, or in single quotes where that won't do.
func quoteLike(style yaml.Style, p string) string {
	plain := plainPath.MatchString(p)
	switch {
	case plain && style&yaml.DoubleQuotedStyle != 0:
		return `"` + p + `"`
	case plain && style&yaml.SingleQuotedStyle == 0:
		return p
	default:
		return "'" + strings.ReplaceAll(p, "'", "''") + "'"
	}
}
