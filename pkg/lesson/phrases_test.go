package lesson

import "testing"

func TestEveryPhraseIsThereInEveryLanguage(t *testing.T) {
	for _, lang := range Languages() {
		say, err := phrasebook(lang)
		if err != nil {
			t.Fatal(err)
		}
		for p := range phraseCount {
			if say[p] == "" {
				t.Errorf("%s lacks phrase %d", lang, p)
			}
		}
	}
}
