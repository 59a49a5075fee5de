#!/usr/bin/env bash
# The scripts of launcher/corpora on small packages of this test's own, with no network: `apt-get download` makes a file
# and `dpkg -x` unpacks the tree that the test has made.
set -euo pipefail
scripts=$PWD/launcher/corpora
cd "$TEST_TMPDIR"
fail() { echo "FAIL: $*" >&2; exit 1; }
expect() { [[ $1 == "$2" ]] || fail "expected"$'\n'"$2"$'\n'"found"$'\n'"$1"; }

mkdir bin tree
cat >bin/apt-get <<'STUB'
#!/usr/bin/env bash
[[ $1 == download ]] || exit 1
for name in "${@:3}"; do touch "$name.deb"; done
STUB
cat >bin/dpkg <<STUB
#!/usr/bin/env bash
[[ \$1 == -x ]] && cp -r "$PWD/tree/." "\$3"
STUB
chmod +x bin/*
export PATH=$PWD/bin:$PATH

help=tree/usr/share/libreoffice/help
mkdir -p "$help/en-US/text" "$help/fr/text"
cat >"$help/en-US/text/a.html" <<'PAGE'
<p>No id.</p><h1 id="hd_1">Save &amp; close</h1>
<p id="par_1" class="x">Press <span class="switchinline"><span hidden="true" class="MAC">Command</span><span
hidden="true">Ctrl</span></span>+S,<br>then <b>wait</b>.</p>
<p id="par_2">LibreOffice</p><p id="par_3">Only here</p><p id="par_4">Save &amp; close</p><p id="par_5"> </p>
PAGE
cat >"$help/fr/text/a.html" <<'PAGE'
<h1 id="hd_1">Enregistrer &amp; fermer</h1><p id="par_4">Enregistrer &#38; fermer</p><p id="par_5">Vide</p>
<p id="par_1">Appuyez sur <span class="switchinline"><span hidden="true" class="MAC">Commande</span><span
hidden="true">Ctrl</span></span>+S, puis attendez.</p><p id="par_2">LibreOffice</p>
PAGE
echo '<p id="par_1">Only English</p>' >"$help/en-US/text/b.html"
for number in {01..18}; do
  echo "<p id=\"par_1\">Page $number.</p>" >"$help/en-US/text/p$number.html"
  echo "<p id=\"par_1\">La page $number.</p>" >"$help/fr/text/p$number.html"
done
# The 20th page is held out, but for what is known from the others, in one language or the other.
echo '<p id="par_1">Not seen. Nor this.</p><p id="par_2">Wait. Page 07.</p><p id="par_3">Another</p>' \
  >"$help/en-US/text/q.html"
echo '<p id="par_1">Pas vu. Ni cela.</p><p id="par_2">Attendez. Autre.</p><p id="par_3">enregistrer &amp; fermer</p>' \
  >"$help/fr/text/q.html"
"$scripts/translation" pairs >log
expect "$(cat log)" \
  "en-fr.jsonl: 20 pairs, 43 English words (of 26 paragraphs; 1 are not translated, others are repeated)
en-fr.held_out.jsonl: 1 pairs, 4 English words (2 others of these pages have sentences to train on)"
expect "$(head -n 2 pairs/en-fr.jsonl)" '{"source": "Save & close", "target": "Enregistrer & fermer"}
{"source": "Press Ctrl+S, then wait.", "target": "Appuyez sur Ctrl+S, puis attendez."}'
expect "$(cat pairs/en-fr.held_out.jsonl)" '{"source": "Not seen. Nor this.", "target": "Pas vu. Ni cela."}'
expect "$(ls pairs)" "en-fr.held_out.jsonl
en-fr.jsonl"

mkdir -p tree/usr/share/wordnet
{
  echo "  1 This is the licence | of it."
  echo '00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is; "a thing"  '
  echo '00001741 05 n 01 dog 0 003 ~ 00001930 n 0000 | a "good" boy'
  echo '00001742 05 n 01 hound 0 003 ~ 00001930 n 0000 | a "good" boy'
} >tree/usr/share/wordnet/data.noun
echo '00001743 44 a 01 boiled 0 003 | cooked in water' >tree/usr/share/wordnet/data.adj
touch tree/usr/share/wordnet/data.{adv,verb}
"$scripts/glosses" glosses >log
grep -q "glosses.jsonl: 3 of 4 glosses, 3 classes" log || fail "$(cat log)"
expect "$(cat glosses/glosses.jsonl)" '{"text": "cooked in water", "label": "adj.ppl"}
{"text": "that which is; \"a thing\"", "label": "noun.Tops"}
{"text": "a \"good\" boy", "label": "noun.animal"}'

mkdir -p tree/usr/share/datasets/fashion-mnist
for side in train t10k; do
  for kind in images-idx3 labels-idx1; do
    printf '\0\0\10\1\0\0\1\2rest' | gzip >"tree/usr/share/datasets/fashion-mnist/$side-$kind-ubyte.gz"
  done
done
"$scripts/fashion_mnist" clothes >log
expect "$(cat log)" "train: 258 images, 258 labels
t10k: 258 images, 258 labels"
expect "$(ls clothes | wc -l)" 4

# What is there is not touched, and a failure leaves nothing.
"$scripts/glosses" glosses 2>log && fail "an output that is there was taken"
grep -q "glosses exists" log || fail "$(cat log)"
"$scripts/translation" others es 2>log && fail "a language that is not there was taken"
grep -q "no language 'es'; fr and de are there" log || fail "$(cat log)"
rm tree/usr/share/wordnet/data.verb
"$scripts/glosses" broken >log 2>&1 && fail "a package without its file was taken"
"$scripts/glosses" >log && fail "no folder was taken"
grep -q "launcher/corpora/glosses FOLDER " log || fail "$(cat log)"
expect "$(echo *)" "bin clothes glosses log pairs tree"
