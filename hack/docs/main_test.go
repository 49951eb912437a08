package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestGeneratedDocumentationIsCurrent fails when the code says something else than docs/ does.
func TestGeneratedDocumentationIsCurrent(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	files, err := pages(docs)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what the code says (%v); run make generate", name, err)
		}
	}
}
