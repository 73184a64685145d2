package dotenv

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// realEnv is the environment of all tests.
var realEnv = map[string]string{"FROM_ENV": "real ${A} $x", "EMPTY_ENV": ""}

func lookIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		text, found := env[name]
		return text, found
	}
}

// table is what phpdotenv makes of files; TestLikePHP asks it. A line that
// begins with "! " is a problem.
var table = []struct {
	text string
	want string // NAME=value lines, in order, values as Go writes them
}{
	{"", ""},
	{"A=b", `A="b"`},
	{"A=", `A=""`},
	{"A", ""},
	{"A=b\nA", ""},
	{"A=b\nA=c", `A="c"`},
	{"  A  =  b  ", `A="b"`},
	{"A = \"b\"", `A="b"`},
	{"export A=b", "! line 1"},
	{"export AB=b", `AB="b"`},
	{"export\tAB=b", `AB="b"`},
	{"'A'=b\n\"B\"=c", `A="b" B="c"`},
	{"a.b=c", `a.b="c"`},
	{"A-B=c", "! line 1"},
	{"A B=c", "! line 1"},
	{"=c", "! line 1"},
	{"A=b=c", `A="b=c"`},
	{"A=b c", "! line 1"},
	{"A=b # c", `A="b"`},
	{"A=b#c", `A="b"`},
	{"A=#c", `A=""`},
	{"A=\"b#c\"", `A="b#c"`},
	{"A='b#c'#d", `A="b#c"`},
	{"A=\"b\"c", "! line 1"},
	{"A='b' c", "! line 1"},
	{"A='it\\'s'", "! line 1"},
	{`A='a\nb'`, `A="a\\nb"`},
	{`A="s3cr$ET!x"`, `A="s3cr$ET!x"`},
	{`A=$2y$10$abcdefghijklmnopqrstuv`, `A="$2y$10$abcdefghijklmnopqrstuv"`},
	{`A="$2y$10$abc"`, `A="$2y$10$abc"`},
	{"A=x${NOPE}y", `A="x${NOPE}y"`},
	{"B=1\nA=x${B}y$B", `A="x1y$B" B="1"`},
	{"B=1\nA='${B}'", `A="${B}" B="1"`},
	{"B=1\nA=\"\\${B}\"", `A="${B}" B="1"`},
	{"B=A1\nA1=z\nA=\"${${B}}\"", `A="z" A1="z" B="A1"`},
	{"B=1\nX1=z\nA=\"${X${B}}\"", `A="z" B="1" X1="z"`},
	{"A=${FROM_ENV}|${EMPTY_ENV}|", `A="real ${A} $x||"`},
	{"A=${FROM_ENV", `A="${FROM_ENV"`},
	{`A="ab\""`, `A="ab\""`},
	{`A="a\tb\r\n\f\v\\"`, `A="a\tb\r\n\f\v\\"`},
	{`A="a\xb"`, "! line 1"},
	{`A="a\'b"`, "! line 1"},
	{`A=a\tb`, `A="a\\tb"`},
	{`A=a"b'c`, `A="a\"b'c"`},
	{"A=\"b\nc\"\nB=1", `A="b\nc" B="1"`},
	{"A=\"b\r\nc\"\r\nB=1\r\n", `A="b\nc" B="1"`},
	{"A=\"\n\"\nB=1", `A="\n" B="1"`},
	{"A=b\rB=c", `A="b" B="c"`},
	{"\ufeffA=b", `A="b"`},
	{"A=é日本", `A="é日本"`},
	{"A=\xff\xe6\x97x", `A="??x"`},
	{"# A=b\n\n  # c\nB=1", `B="1"`},
	{"# A=\"b\nB=1\nC\"\nD=1", `D="1"`},
	{"# A=\"b\nB=1\nC=\"\nD=1", `! lines 1 to 4`},
	{"C=1\nA=\"b\nB=1\nD=2\n", `C="1" ! lines 2 to 4`},
	// phpdotenv refuses all of the file; here only the line is lost.
	{"A=\"b\nB=1\nD=\"2\"\nE=3", `B="1" D="2" E="3" ! line 1`},
	{"A=b c\nB=1\nC==\n", `B="1" C="=" ! line 1`},
	{"A=\"b\" c\nB=1\nfoo bar\n", `B="1" ! line 1 ! line 3`},
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range table {
		values, _, problems := Parse([]byte(tt.text), lookIn(realEnv))
		if diff := cmp.Diff(tt.want, render(values, problems)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
}

// A value is where its entry begins, the last of a name that has several.
func TestLines(t *testing.T) {
	t.Parallel()
	_, lines, _ := Parse([]byte("# x\r\nA=1\r\n\r\nB=\"b\nb\"\nC=1\nD=1\nC=2\nD\n"), lookIn(nil))
	if diff := cmp.Diff(map[string]int{"A": 2, "B": 4, "C": 8}, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A problem says where and which rule, and nothing of the line.
func TestProblemsHaveNoContent(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"A=hunter2 hunter2", "hunter2 hunter2", "=hunter2", "A=\"hunter2", "A=\"hunter2\"hunter2", "A='hunter2", `A="\hunter2"`, "hunter-2=x", "A=x\n\nB=\"hunter2\nC=hunter2",
	} {
		_, _, problems := Parse([]byte(text), lookIn(nil))
		if len(problems) != 1 {
			t.Errorf("%q: %d problems, want 1", text, len(problems))
		}
		for _, p := range problems {
			if strings.Contains(p.Error(), "hunter") || !strings.HasPrefix(p.Error(), "line") {
				t.Errorf("%q: %v", text, p)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range table {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		values, at, problems := Parse(text, lookIn(realEnv))
		lines := len(splitLines(validUTF8(text)))
		for name, value := range values {
			if strings.Trim(name, nameCharacters) != "" || name == "" || !utf8.ValidString(value) || at[name] < 1 || at[name] > lines {
				t.Errorf("%q: %q=%q in line %d", text, name, value, at[name])
			}
		}
		if len(at) != len(values) {
			t.Errorf("%q: lines of %v, values of %v", text, at, values)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Last < p.Line || p.Last > lines || p.Rule == "" {
				t.Errorf("%q: %+v of %d lines", text, p, lines)
			}
		}
	})
}

// render prints what Parse returned as the table has it.
func render(values map[string]string, problems []*LineError) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, name+"="+strconv.Quote(values[name]))
	}
	for _, p := range problems {
		where, _, _ := strings.Cut(p.Error(), ":")
		parts = append(parts, "! "+where)
	}
	return strings.Join(parts, " ")
}
