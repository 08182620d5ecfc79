import inspect

import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import scipy.sparse

from dnc_jax import InputError
from dnc_jax.training import readers
from dnc_jax.training.arrays import checked
from dnc_jax.training.data import Split, from_arrays, load, normalise


def arrays(rows=40, classes=2, features=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    return Split(x, np.arange(rows) % classes)


def test_digits_are_split_by_class_and_stay_uint8(digits):
    assert digits.train.x.dtype == np.uint8
    assert digits.train.x.shape[1:] == (8, 8, 1)
    rows = [len(split.y) for split in (digits.train, digits.validation, digits.test)]
    assert sum(rows) == 1797
    for split in (digits.train, digits.validation, digits.test):
        shares = np.bincount(split.y) / len(split.y)
        np.testing.assert_allclose(shares, 0.1, atol=0.01)


def test_no_row_is_in_two_splits_and_the_seed_chooses_validation_only():
    one, again, other = (load("digits", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.validation.x, again.validation.x)
    np.testing.assert_array_equal(one.test.x, other.test.x)
    assert not np.array_equal(one.validation.x, other.validation.x)
    whole = np.concatenate([one.train.x, one.validation.x]).reshape(-1, 64)
    whole_again = np.concatenate([other.train.x, other.validation.x]).reshape(-1, 64)
    np.testing.assert_array_equal(np.sort(whole, axis=0), np.sort(whole_again, axis=0))


def test_normalised_training_rows_have_mean_0_and_variance_1():
    x = np.random.default_rng(0).normal(5, 3, (500, 4)).astype(np.float32)
    problem = from_arrays((x, np.arange(500) % 2), (x[:9], np.arange(9) % 2))
    seen = np.asarray(normalise(problem.train.x, problem.mean, problem.scale))
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), 1, atol=1e-4)


def test_a_constant_feature_is_left_finite():
    x = np.ones((40, 3), np.float32)
    problem = from_arrays((x, np.arange(40) % 2), (x, np.arange(40) % 2))
    assert np.isfinite(normalise(x, problem.mean, problem.scale)).all()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (Split(np.zeros((0, 3)), np.zeros(0, int)), "no rows"),
        (Split(np.zeros((40, 3)), np.zeros(39, int)), "40 examples but labels"),
        (Split(np.zeros((40, 3)), np.zeros(40, int)), "all training labels are 0"),
        (
            Split(np.zeros((40, 3)), np.arange(40) % 2 * 2),
            "no training row has label 1",
        ),
        (Split(np.zeros((40, 3)), np.zeros((40, 2), int)), "labels must be integers"),
        (Split(np.zeros((40, 3)), np.linspace(0, 0, 40)), "target 0 is 0 in every"),
        (Split(np.zeros((40, 3)), np.full(40, np.nan)), "targets hold NaN"),
        (Split(np.zeros((40, 3)), np.zeros((40, 2, 1))), "40 examples but labels"),
        (Split(np.full((40, 3), "a"), np.arange(40) % 2), "numbers are needed"),
        (Split(np.zeros((2, 3)), np.arange(2)), "none is left when"),
        (Split(np.zeros((40, 4)), np.arange(40) % 2), "must agree"),
    ],
)
def test_unusable_rows_are_refused_with_the_reason(train, message):
    with pytest.raises(InputError, match=message):
        from_arrays(train, arrays())


def test_nan_is_refused_with_its_row():
    train = arrays()
    train.x[7, 1] = np.nan
    with pytest.raises(InputError, match=r"1 of 40 examples hold NaN.*row 7"):
        from_arrays(train, arrays())


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
def test_an_impossible_validation_fraction_is_refused(fraction):
    with pytest.raises(InputError, match="validation_fraction"):
        from_arrays(arrays(), arrays(), validation_fraction=fraction)


def test_an_npz_file_is_read_by_the_names_of_its_arrays(tmp_path):
    train, test = arrays(50), arrays(20)
    path = tmp_path / "rows.npz"
    np.savez(path, xtr=train.x, ytr=train.y, xte=test.x, yte=test.y)
    problem = load(str(path))
    assert (len(problem.train.y), len(problem.validation.y)) == (40, 10)
    np.savez(path, xtr=train.x, ytr=train.y)
    with pytest.raises(InputError, match="no array xte, yte"):
        load(str(path))


def test_a_pickle_in_an_npz_file_is_not_opened(tmp_path):
    path = tmp_path / "rows.npz"
    bad = np.array([{"a": 1}], dtype=object)
    np.savez(path, allow_pickle=True, xtr=bad, ytr=bad, xte=bad, yte=bad)
    with pytest.raises(InputError, match="cannot read"):
        load(str(path))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04torn"])
def test_a_damaged_npz_file_is_refused(tmp_path, content):
    path = tmp_path / "rows.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot read"):
        load(str(path))


def test_an_unknown_data_set_is_refused_with_those_known(tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    with pytest.raises(InputError, match=r"unknown data set 'nist'.*digits.*mnist"):
        load("nist", data_dir=str(tmp_path))


def test_a_missing_data_directory_is_named(tmp_path):
    with pytest.raises(InputError, match=r"since .*nowhere does not exist"):
        load("mnist", data_dir=str(tmp_path / "nowhere"))


def test_a_new_source_is_one_entry(monkeypatch):
    def read_made(source):
        x = np.full((40, 2), float(len(source.target)))
        return readers.Read((x, np.arange(40) % 2), (x, np.arange(40) % 2))

    monkeypatch.setitem(readers.READERS, ".made", readers.Reader(read_made, table=True))
    (x, _), *_ = readers.read("x.made", target="abc")
    assert (x == 3).all()
    with pytest.raises(InputError, match=r"any .*\.made.* file"):
        readers.read("y.parquet")
    with pytest.raises(InputError, match=r"for .*\.made files, and .* 'digits'"):
        readers.read("digits", target="abc")


def test_labels_of_any_kind_become_0_to_k_and_keep_their_names():
    x = np.zeros((40, 3), np.float32)
    for labels in (np.array(["cat", "dog"]), np.array([-3, 700])):
        problem = from_arrays((x, labels[np.arange(40) % 2]), (x, labels[[1] * 40]))
        assert problem.labels == tuple(labels.tolist())
        assert problem.train.y.dtype == np.int32
        assert set(problem.train.y) == {0, 1}
        assert set(problem.test.y) == {1}
    numbers, names = np.arange(40) % 12, np.array(["2", "9"] * 20)
    for train, test in ((numbers, names), (names, numbers)):
        with pytest.raises(InputError, match="numbers in both, or names in both"):
            from_arrays((x, train), (x, test))


def test_regression_targets_are_standardised_by_the_training_rows():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.normal(50, 7, (200, 2))
    problem = from_arrays((x, y), (x, y))
    assert (problem.task, problem.outputs, problem.labels) == ("regression", 2, ())
    np.testing.assert_allclose(problem.train.y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(problem.train.y.std(0), 1, atol=1e-5)
    again = problem.test.y / problem.target_scale + problem.target_mean
    np.testing.assert_allclose(again, y, rtol=1e-5)


def test_the_task_can_be_said_where_the_type_misleads():
    x, y = np.zeros((40, 3)), np.arange(40)
    assert from_arrays((x, y), (x, y), task="regression").task == "regression"
    with pytest.raises(InputError, match=r"^task must be one of"):
        from_arrays((x, y), (x, y), task="clustering")


def test_images_with_channels_first_are_turned():
    x = np.arange(40 * 2 * 3 * 4, dtype=np.uint8).reshape(40, 2, 3, 4)
    y = np.arange(40) % 2
    problem = from_arrays((x, y), (x, y), channels="first")
    assert problem.train.x.shape[1:] == (3, 4, 2)
    np.testing.assert_array_equal(problem.test.x[5], x[5].transpose(1, 2, 0))
    with pytest.raises(InputError, match=r"channels='first' is for images"):
        from_arrays((x[:, 0], y), (x[:, 0], y), channels="first")
    with pytest.raises(InputError, match="the images of digits have their channels la"):
        load("digits", channels="first")


CSV = "size,age,price\n" + "".join(f"{i},{i % 7},{3.5 * i}\n" for i in range(50))


def test_a_csv_file_is_read_by_its_header(tmp_path):
    path = tmp_path / "houses.csv"
    path.write_text(CSV)
    problem = load(str(path))
    assert (problem.task, problem.inputs, len(problem.test.y)) == ("regression", 2, 10)
    again = load(str(path), seed=1)
    np.testing.assert_array_equal(problem.test.x, again.test.x)
    other = load(str(path), target="age")
    assert (other.task, other.labels) == ("classification", tuple(range(7)))
    assert np.bincount(other.test.y).tolist() == [2, 1, 1, 2, 1, 2, 1]
    np.testing.assert_allclose(
        np.diff(np.sort(problem.test.y[:, 0])).std(), 0, atol=1e-6
    )
    (tmp_path / "more.csv").write_text(CSV)
    assert len(load(str(path), test=str(tmp_path / "more.csv")).test.y) == 50
    header = CSV.splitlines()[0].split(",")
    assert problem.columns == tuple(header[:-1])
    turned = [",".join(row.split(",")[::-1]) for row in CSV.splitlines()]
    (tmp_path / "more.csv").write_text("\n".join(turned))
    with pytest.raises(InputError, match=f"has columns {header[-1]}, .*must agree"):
        load(str(path), test=str(tmp_path / "more.csv"))


def test_rows_to_test_on_are_taken_out_where_none_are_given():
    x = np.arange(100, dtype=np.float32)[:, None]
    y = np.array(["no", "yes"])[(np.arange(100) % 10 == 0).astype(int)]
    found = from_arrays((x, y))
    assert (found.rows, len(found.test.y)) == ((64, 16), 20)
    assert np.bincount(found.test.y).tolist() == [18, 2]
    parts = [split.x[:, 0] for split in (found.train, found.validation, found.test)]
    assert sorted(np.concatenate(parts)) == x[:, 0].tolist()
    with pytest.raises(InputError, match="one row; two are needed"):
        from_arrays((x[:1], y[:1]))


def test_the_counter_of_a_data_frame_is_no_feature(tmp_path):
    (tmp_path / "rows.csv").write_text(",a,kind\n0,1.5,x\n1,2.5,y\n")
    with pytest.raises(InputError, match=r"column without a name.*index=False"):
        load(str(tmp_path / "rows.csv"))


def test_a_constant_column_of_doubles_is_no_column_far_from_0(tmp_path):
    rows = "".join(f"0.1,{n},{n % 2}\n" for n in range(100))
    (tmp_path / "rows.csv").write_text("a,b,kind\n" + rows)
    found = load(str(tmp_path / "rows.csv"))
    assert set(np.asarray(found.train.x)[:, 0]) == {np.float32(0.1)}


def test_bytes_and_what_is_scaled_do_not_go_together():
    images = np.zeros((20, 4, 4, 1), np.uint8)
    y = np.arange(20) % 2
    with pytest.raises(InputError, match="uint8 in train and float32 in test, and"):
        from_arrays((images, y), (images / 255.0, y))
    bright = np.full_like(images, 200)
    found = from_arrays((bright.astype(int), y), (bright, y))
    assert (found.train.x.dtype, found.test.x.dtype) == (np.uint8, np.uint8)


def test_data_frames_keep_their_columns():
    pandas = pytest.importorskip("pandas")
    y = np.arange(20) % 2
    frame = pandas.DataFrame({"a": np.arange(20.0), "b": y > 0, "c": range(20)})
    found = from_arrays((frame, y), (frame, y))
    assert found.inputs == 3
    assert found.train.x.dtype == np.float32
    with pytest.raises(InputError, match=r"in train and \['c', 'a', 'b'\] in test"):
        from_arrays((frame, y), (frame[["c", "a", "b"]], y))
    named = frame.assign(b="red")
    with pytest.raises(InputError, match="column 'b' of type <U3; numbers are needed"):
        from_arrays((named, y), (named, y))
    gone = frame.assign(c=np.where(y, 1.0, np.nan))
    with pytest.raises(InputError, match="column 'c': 10 of 20 values hold NaN"):
        from_arrays((gone, y), (gone, y))
    counts = pandas.Series(y, dtype="Int64")
    assert from_arrays((frame, counts), (frame, counts)).labels == (0, 1)


def test_masked_values_are_no_values():
    x = np.ma.masked_array(np.ones((20, 2)), mask=np.eye(20, 2))
    with pytest.raises(InputError, match="masked values"):
        from_arrays((x, np.arange(20) % 2), (np.ones((2, 2)), np.arange(2)))


def test_one_hot_labels_are_refused_with_the_remedy():
    x, y = np.ones((20, 2)), np.eye(2, dtype=int)[np.arange(20) % 2]
    with pytest.raises(InputError, match=r"of one-hot rows, y\.argmax\(1\);"):
        from_arrays((x, y), (x, y))


def test_labels_may_be_bytes():
    x = np.arange(24.0).reshape(12, 2)
    names = np.array([b"cat", b"d\xf6g"] * 6)
    found = from_arrays((x, names), (x, names))
    assert found.labels == ("cat", "d\\xf6g")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (np.nan, "arrays, train: row 11 has no label"),
        (None, "arrays, train: row 11 has no label"),
        (pandas.NA, "arrays, train: row 11 has no label"),
        (1, "labels of the types int, str; names or numbers"),
    ],
)
def test_a_missing_name_is_no_class(missing, message):
    x = np.arange(24.0).reshape(12, 2)
    names = np.array(["cat", "dog"] * 5 + ["cat", missing], object)
    for test in ((x, names), None):
        with pytest.raises(InputError, match=message):
            from_arrays((x, names), test)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "no rows"),
        ("a\n1\n", "has one column"),
        ("a,b\n1,2\n3\n", "row 3: 1 values for 2 columns"),
        ("a,b\n1,2\nred,3\n", r"row 3, column 'a': 'red' is not a finite"),
        ("a,b\n1,2\nnan,3\n", r"row 3, column 'a': 'nan' is not a finite"),
        ("a,c,b\n1,2,1\n1,1e999,3\n", r"row 3, column 'c': '1e999' is not a finite"),
        ("a,b\n1,2\n,3\n", r"row 3, column 'a': no value; fill it in"),
        ('a,b\n1,"2\n', "cannot read"),
        ("a,b,a\n1,2,3\n", "more than one column 'a'"),
        ("5.1,3.5,cat\n4.9,3.0,dog\n", "begins with 5.1, 3.5, cat, which looks like"),
        ("5,cat\n4,dog\n", "begins with 5, cat, which looks like a row"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_refused_with_the_place(
    tmp_path, text, message
):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load(str(path))


def test_true_and_false_of_a_csv_file_are_1_and_0(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b,kind\n" + "True,1,x\nfalse,2,y\n" * 5)
    found = load(str(path))
    for split in (found.train, found.test):
        assert (np.asarray(split.x)[:, 0] == (np.asarray(split.y) == 0)).all()


def test_empty_lines_of_a_csv_file_are_no_rows_and_pixels_may_be_numbered(tmp_path):
    path = tmp_path / "rows.csv"
    lines = [f"{i},{i % 7},{'ab'[i % 2]}" for i in range(40)]
    path.write_text("\n\n".join(["0,1,kind", *lines, ",,", "", ""]))
    data = load(str(path))
    assert (len(data.test.y), sum(data.rows)) == (8, 32)
    path.write_text("\n".join(["0,1,kind", *lines, "", "1,2"]))
    with pytest.raises(InputError, match="row 43: 2 values for 3 columns"):
        load(str(path))


def test_half_precision_is_taken_and_what_float32_cannot_hold_is_said_to_be():
    x = np.random.default_rng(0).normal(size=(40, 3))
    rows = jnp.asarray(x, jnp.bfloat16), jnp.asarray(x[:, 0], jnp.bfloat16)
    data = from_arrays(rows, rows)
    assert (data.task, data.train.x.dtype) == ("regression", np.float32)
    x[7] = 1e300
    with pytest.raises(InputError, match=r"too large for float32, the first in row 7"):
        from_arrays((x, x[:, 0]), (x, x[:, 0]))


def test_options_of_a_csv_file_are_refused_where_they_mean_nothing(tmp_path):
    with pytest.raises(InputError, match=r"are for \.csv files"):
        load("digits", target="age")
    path = tmp_path / "houses.csv"
    path.write_text(CSV)
    with pytest.raises(InputError, match=r"no column 'colour'"):
        load(str(path), target="colour")
    other = tmp_path / "other.csv"
    other.write_text("size,price\n1,2\n")
    with pytest.raises(InputError, match="they must agree"):
        load(str(path), test=str(other))


def test_only_images_are_augmented():
    assert load("digits", augment=True).augment
    with pytest.raises(InputError, match=r"^augment is for images"):
        from_arrays(arrays(), arrays(), augment=True)


def test_numbers_too_long_for_an_integer_are_read_as_numbers(tmp_path):
    path = tmp_path / "long.csv"
    rows = "\n".join(f"{i},{i}{'0' * 20}" for i in range(1, 30))
    path.write_text(f"a,b\n{rows}\n")
    assert load(str(path)).task == "regression"


def test_a_target_that_is_the_same_in_every_row_is_refused_whatever_its_rounding():
    x = np.arange(60, dtype=np.float32).reshape(30, 2)
    y = np.full(30, 0.1)
    with pytest.raises(InputError, match=r"target 0 is 0.1 in every training row"):
        from_arrays((x, y), (x, y), task="regression")


def test_a_digest_tells_other_rows(small):
    train = small.train
    moved = small._replace(train=train._replace(x=train.x + np.float32(1e-3)))
    shuffled = small._replace(train=Split(train.x, train.y[::-1]))
    digests = {one.digest() for one in (small, moved, shuffled)}
    assert len(digests) == 3
    assert small.digest() == small._replace(name="other").digest()


def test_a_feature_that_float32_does_not_tell_apart_is_refused():
    x = np.random.default_rng(0).normal(size=(40, 2))
    far = x + np.array([0.0, 1.7e9])
    y = np.arange(40) % 2
    with pytest.raises(InputError, match=r"feature 1 varies by .* around 1.7e\+09, wh"):
        from_arrays((far, y), (far, y))
    from_arrays((far.astype(np.float32), y), (x, y))  # as it came
    constant = np.hstack([x, np.full((40, 1), 1.7e9)])
    from_arrays((constant, y), (constant, y))


def test_names_in_object_arrays_and_whole_floats_are_labels():
    x = np.zeros((40, 3), np.float32)
    names = np.array(["cat", "dog"], object)[np.arange(40) % 2]
    assert from_arrays((x, names), (x, names)).labels == ("cat", "dog")
    floats = (np.arange(40) % 2).astype(float)
    assert from_arrays((x, floats), (x, floats)).task == "regression"
    named = from_arrays((x, floats), (x, floats), task="classification")
    assert named.labels == (0, 1)
    for other in (floats / 2, np.where(floats, np.inf, 0)):
        with pytest.raises(InputError, match="labels must be integers or names"):
            from_arrays((x, other), (x, other), task="classification")


def test_targets_that_float32_does_not_tell_apart_are_refused():
    x, y = np.zeros((40, 3), np.float32), np.arange(40.0)
    with pytest.raises(InputError, match=r"target 1 varies by .*subtract 1.7e\+09"):
        from_arrays((x, np.stack([y, y + 1.7e9], 1)), (x, np.stack([y, y], 1)))
    from_arrays((x, y + 1e5), (x, y))


def test_targets_beyond_what_can_be_standardised_are_refused():
    x, y = np.zeros((10, 3), np.float32), np.arange(10.0)
    with pytest.raises(InputError, match=r"up to 8e\+300 that vary .* divide them"):
        from_arrays((x, y * 1e300), (x, y))
    with pytest.raises(InputError, match=r"up to 8e-200 that vary by .*e-200 are"):
        from_arrays((x, y * 1e-200), (x, y))
    assert from_arrays((x, y * 1e-30), (x, y)).target_scale[0] > 1e29


def test_a_row_of_a_csv_file_without_its_target_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b,kind\n1,2,cat\n3,4,\n")
    with pytest.raises(InputError, match=r"row 3: no value in column 'kind'"):
        load(str(path))
    path.write_text("a;b;kind\n1;2;cat\n")
    with pytest.raises(InputError, match=r"one column; .* by commas, not by ';'"):
        load(str(path))


def test_sparse_matrices_and_what_is_no_pair_are_refused_with_the_remedy():
    x, y = scipy.sparse.csr_matrix(np.eye(6)), np.arange(6) % 2
    # Not held against their annotations.
    rows, unchecked = map(inspect.unwrap, (checked, from_arrays))
    with pytest.raises(InputError, match=r"train: examples in a csr_matrix.*toarray"):
        rows(x, y, "train", "last")
    with pytest.raises(InputError, match=r"train: a pair \(x, y\) is needed, got"):
        unchecked(np.eye(6), y)
