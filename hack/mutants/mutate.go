package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// takenOut is what a mutant answers, and passes how it says so at once.
const (
	takenOut = "this check was taken out"
	passes   = ` if true { return plan.Passed("` + takenOut + `"), nil };`
)

// mutate writes a copy of the file with the function that the check looks with, changed so that it passes at once, to out, and returns the path of
// an overlay that puts it in the original's place.
func mutate(check, dir, out string) (overlay string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	set := token.NewFileSet()
	parsed := map[string]*ast.File{}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		if parsed[f], err = parser.ParseFile(set, f, nil, parser.SkipObjectResolution); err != nil {
			return "", err
		}
	}
	look := ""
	for _, f := range parsed {
		if found := lookOf(f, check); found != "" {
			look = found
		}
	}
	if look == "" {
		return "", fmt.Errorf("no Check with that name in %s whose Look calls one function", dir)
	}
	for path, f := range parsed {
		body := bodyOf(f, look)
		if body == nil {
			continue
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		at := set.Position(body.Lbrace).Offset + 1
		mutant := filepath.Join(out, filepath.Base(path))
		if err := os.WriteFile(mutant, []byte(string(src[:at])+passes+string(src[at:])), 0o600); err != nil {
			return "", err
		}
		return writeOverlay(filepath.Join(out, "overlay.json"), path, mutant)
	}
	return "", errors.New("no function " + look)
}

// lookOf returns the name of the function or method that the Look of a check of that name calls; "" if the file has no such check.
func lookOf(f *ast.File, check string) (name string) {
	ast.Inspect(f, func(n ast.Node) bool {
		literal, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		fields := map[string]ast.Expr{}
		for _, e := range literal.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				if key, ok := kv.Key.(*ast.Ident); ok {
					fields[key.Name] = kv.Value
				}
			}
		}
		value, ok := fields["Name"].(*ast.BasicLit)
		if !ok || value.Value != strconv.Quote(check) {
			return true
		}
		if closure, ok := fields["Look"].(*ast.FuncLit); ok {
			name = returned(closure)
		}
		return true
	})
	return name
}

// returned is the name of what a closure of one return statement calls.
func returned(closure *ast.FuncLit) string {
	if len(closure.Body.List) != 1 {
		return ""
	}
	ret, ok := closure.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(ret.Results) != 1 {
		return ""
	}
	call, ok := ret.Results[0].(*ast.CallExpr)
	if !ok {
		return ""
	}
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	default:
		return ""
	}
}

func bodyOf(f *ast.File, name string) *ast.BlockStmt {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == name {
			return fn.Body
		}
	}
	return nil
}

func writeOverlay(path, original, mutant string) (string, error) {
	abs, err := filepath.Abs(original)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {abs: mutant}})
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, b, 0o600)
}
