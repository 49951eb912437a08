// Package kindsrc reads from kind's own source what a node image has to agree on with it, so that it follows the
// version of kind in go.mod and nothing of it is kept here.
package kindsrc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"

	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/run"
)

// DefaultNodeImage is the image that kind takes when none is named.
const DefaultNodeImage = defaults.Image

// Source is the folder of kind's module.
type Source struct {
	Version string
	Dir     string
}

// Find locates the module of the version in go.mod of the module in dir, and downloads it if need be.
func Find(ctx context.Context, dir string) (Source, error) {
	// "list" alone knows the folder only when the module is in the module cache already.
	if err := run.Run(ctx, run.Cmd{Argv: []string{"go", "mod", "download", "sigs.k8s.io/kind"}, Dir: dir, Env: []string{"GOWORK=off"}}); err != nil {
		return Source{}, fmt.Errorf("downloading kind's source: %w", err)
	}
	out, err := run.Output(ctx, run.Cmd{Argv: []string{"go", "list", "-m", "-json", "sigs.k8s.io/kind"}, Dir: dir, Env: []string{"GOWORK=off"}})
	if err != nil {
		return Source{}, fmt.Errorf("finding kind's source: %w", err)
	}
	var s Source
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return Source{}, fmt.Errorf("finding kind's source: %w", err)
	}
	if s.Dir == "" {
		return Source{}, errors.New("finding kind's source: the go command names no folder for it (is it vendored?)")
	}
	return s, nil
}

// BaseFiles is the folder with the files of kind's base image.
func (s Source) BaseFiles() string { return filepath.Join(s.Dir, "images", "base", "files") }

// LoadBalancerImage is the exact name of the image that kind puts in front of several control planes.
func (s Source) LoadBalancerImage() (string, error) {
	dir := filepath.Join(s.Dir, "pkg", "cluster", "internal", "loadbalancer")
	image, err := constant(dir, "Image")
	if err != nil {
		return "", fmt.Errorf("finding the load balancer's image in kind %s: %w", s.Version, err)
	}
	return image, nil
}

// constant reads the string constant called name from the Go files in dir.
func constant(dir, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, data, parser.SkipObjectResolution)
		if err != nil {
			return "", err
		}
		for _, decl := range file.Decls {
			if value, ok := constantIn(decl, name); ok {
				return value, nil
			}
		}
	}
	return "", fmt.Errorf("no string constant %s in %s", name, dir)
}

func constantIn(decl ast.Decl, name string) (string, bool) {
	gen, ok := decl.(*ast.GenDecl)
	if !ok || gen.Tok != token.CONST {
		return "", false
	}
	for _, spec := range gen.Specs {
		values := spec.(*ast.ValueSpec)
		for i, ident := range values.Names {
			if ident.Name != name || i >= len(values.Values) {
				continue
			}
			if lit, ok := values.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				value, err := strconv.Unquote(lit.Value)
				return value, err == nil
			}
		}
	}
	return "", false
}
