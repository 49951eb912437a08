package plan

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"al.essio.dev/pkg/shellescape"
)

// String is the command as one line that bash reads back as the same argument vectors, whatever they hold: it can be
// pasted, logged and searched for. On and Fails are not part of it.
//
// With PipeTo and Until both set, what is waited for is the success of PipeTo, as in any pipe of a shell
// without pipefail.
func (c Command) String() string {
	line := strings.Join(quoteAll(c.Argv, quoteOneLine), " ")
	if len(c.PipeTo) > 0 {
		line += " | " + strings.Join(quoteAll(c.PipeTo, quoteOneLine), " ")
	}
	if c.Until {
		return untilOpen + line + untilClose
	}
	return line
}

// Script is the command as shell text to be read and pasted: the same argument vectors as String's, but broken with
// backslashes before a flag where a line would be longer than width columns, and with the line breaks of a many-line
// argument kept as line breaks. Width 0 or less means that no line is broken.
func (c Command) Script(width int) string {
	l := layout{width: width}
	if c.Until {
		l.text.WriteString(untilOpen)
		l.column = len(untilOpen)
	}
	l.words(c.Argv, "")
	if len(c.PipeTo) > 0 {
		// A pipeline that doesn't fit on one line is easiest to read when each of its programs begins one.
		if !l.fits(0, c.String()) {
			l.breakLine()
		}
		l.words(c.PipeTo, "| ")
	}
	if c.Until {
		l.text.WriteString(untilClose)
	}
	return l.text.String()
}

const (
	untilOpen  = "until "
	untilClose = "; do sleep 1; done"
	indent     = "    "
)

// layout fills lines with groups of words: a flag and the word behind it, which may be its value, or words between flags,
// which belong together as a subcommand and its operands do.
type layout struct {
	width  int
	column int
	// started says that something was put that the next word must be set off from.
	started bool
	text    strings.Builder
}

func (l *layout) words(argv []string, prefix string) {
	words := quoteAll(argv, quoteReadable)
	if len(words) == 0 {
		return
	}
	words[0] = prefix + words[0]
	isFlag := func(i int) bool { return strings.HasPrefix(argv[i], "-") }
	for start := 0; start < len(argv); {
		end := start + 1
		switch {
		case !isFlag(start):
			for end < len(argv) && !isFlag(end) {
				end++
			}
		case !strings.Contains(argv[start], "=") && end < len(argv) && !isFlag(end):
			end++
		}
		group := words[start:end]
		if whole := strings.Join(group, " "); l.fits(len(indent), whole) {
			group = []string{whole}
		}
		for _, part := range group {
			l.put(part)
		}
		start = end
	}
}

// fits reports whether s, put at the column, leaves room for the backslash that ends the line.
func (l *layout) fits(column int, s string) bool {
	first, _, _ := strings.Cut(s, "\n")
	return l.width <= 0 || column+columns(first)+len(" \\") <= l.width
}

func (l *layout) put(s string) {
	switch {
	case !l.started:
		l.started = true
	case l.fits(l.column+1, s):
		l.text.WriteString(" ")
		l.column++
	default:
		l.breakLine()
		l.started = true
	}
	l.text.WriteString(s)
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		l.column, s = 0, s[i+1:]
	}
	l.column += columns(s)
}

// breakLine goes on on a new line.
func (l *layout) breakLine() {
	l.text.WriteString(" \\\n" + indent)
	l.column = len(indent)
	l.started = false
}

func columns(s string) int { return utf8.RuneCountInString(s) }

func quoteAll(argv []string, quote func(string) string) []string {
	out := make([]string, len(argv))
	for i, arg := range argv {
		out[i] = quote(arg)
		if i == 0 && out[i] == arg && special(arg) {
			out[i] = "'" + arg + "'"
		}
	}
	return out
}

// special reports whether bash takes an unquoted first word for something else than the name of a program: an
// assignment (NAME=value) or a reserved word.
func special(word string) bool {
	if strings.Contains(word, "=") {
		return true
	}
	switch word {
	case "if", "then", "elif", "else", "fi", "time", "for", "in", "until", "while", "do", "done", "case", "esac",
		"coproc", "select", "function":
		return true
	}
	return false
}

// quoteOneLine quotes a word so that it stays on one line.
func quoteOneLine(word string) string {
	return quoteUnless(word, func(r rune) bool { return unicode.IsControl(r) })
}

// quoteReadable quotes a word, and leaves line breaks in it as they are if it has several lines.
func quoteReadable(word string) string {
	if !strings.Contains(strings.TrimSuffix(word, "\n"), "\n") {
		return quoteOneLine(word)
	}
	return quoteUnless(word, func(r rune) bool { return unicode.IsControl(r) && r != '\n' })
}

// quoteUnless quotes word in the usual way unless it holds bytes that wouldn't survive: a terminal acts on control
// characters that are pasted (a tab completes a file name), and bytes that aren't UTF-8 don't travel through documents.
// Such a word is written as $'…', which bash, ksh and zsh read.
func quoteUnless(word string, unprintable func(rune) bool) string {
	if utf8.ValidString(word) && strings.IndexFunc(word, unprintable) < 0 {
		return shellescape.Quote(word)
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := 0; i < len(word); {
		r, size := utf8.DecodeRuneInString(word[i:])
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\\':
			b.WriteString(`\\`)
		case r == utf8.RuneError && size == 1, unicode.IsControl(r), r == '\'', r == '!':
			// A quote or an exclamation mark is written by its number too, so that no reader of the line that knows only '…'
			// (history expansion is one) loses track of where the word ends.
			for _, c := range []byte(word[i : i+size]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		default:
			b.WriteString(word[i : i+size])
		}
		i += size
	}
	b.WriteString("'")
	return b.String()
}
