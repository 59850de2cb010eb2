"""The linear baseline that the safety classifier is compared with (docs/results.md).

TF-IDF of words 1-2 and of characters 2-5 within words, logistic regression, scikit-learn's defaults
otherwise. usage: classifier_baseline.py TRAIN.jsonl VALID.jsonl PREDICTIONS.jsonl
"""

import json
import sys

from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score


def read(path):
    with open(path) as lines:
        records = [json.loads(line) for line in lines]
    return [r["text"] for r in records], [r["label"] for r in records]


train_path, valid_path, out_path = sys.argv[1:]
texts, labels = read(train_path)
valid, truth = read(valid_path)
words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True)
x = hstack([words.fit_transform(texts), pieces.fit_transform(texts)]).tocsr()
model = LogisticRegression(C=4, max_iter=200, tol=1e-3).fit(x, labels)
found = model.predict(hstack([words.transform(valid), pieces.transform(valid)]).tocsr())
with open(out_path, "w") as out:
    for label in found:
        out.write(json.dumps({"label": label}) + "\n")
large = [label for label in model.classes_ if truth.count(label) >= 100]
print("accuracy", round(accuracy_score(truth, found), 4))
print("macro-F1", round(f1_score(truth, found, average="macro"), 4))
print("macro-F1 of large classes", round(f1_score(truth, found, labels=large, average="macro"), 4))
