"""Wrong commands, with their exit codes and error messages."""
# ruff: noqa: E501

# Each line has the exit code, the command, and the message after `error: `, in
# which `...` stands for any text. Commands run in a fork. The first command of
# some topics also runs in a new process. Commands that set an environment
# variable run only in a new process.
TABLE = r"""
## flags
2 |  | no --config given: try --config=configs/quickstart.py, or --help
2 | --workdir=run | no --config given: try --config=configs/quickstart.py, or --help
2 | --workdir=run --mode=train | no --config given: try --config=configs/quickstart.py, or --help
2 | --workdir=x --config.train.steps=3 | no --config given: try --config=configs/quickstart.py, or --help
2 | --cofnig=x.py | no flag --cofnig: did you mean --config?
2 | --foo | no flag --foo: did you mean --format?
2 | --hlep | no flag --hlep: did you mean --help?
2 | $Q --wrokdir=run | no flag --wrokdir: did you mean --workdir?
2 | $Q --steps=9 | no flag --steps: did you mean --config.train.steps?
2 | $Q --log_dir=x | no flag --log_dir: did you mean --workdir?
2 | $Q --noconfig | no flag --noconfig: did you mean --config?
2 | $Q --mode=trian | --mode is 'trian': did you mean train? Choose from all, data, embed, semantic_ids, train, evaluate, bench, recommend, recommend_all, serve, report, export, check_data, doctor
2 | $Q --mode=$NOT_UTF8 | --mode is '\udcff': choose from all, data, embed, semantic_ids, train, evaluate, bench, recommend, recommend_all, serve, report, export, check_data, doctor
2 | $Q --mode | --mode needs a value, as in --mode=VALUE
2 | --config | --config needs a value, as in --config=VALUE
2 | --config= | --config is empty
2 | $Q --workdir= | --workdir is empty
2 | $Q --mode=data stray | 'stray' is not a flag: flags begin with --, and a list of ids has no spaces
2 | $Q '' | '' is not a flag: flags begin with --, and a list of ids has no spaces
2 | $Q - | '-' is not a flag: flags begin with --, and a list of ids has no spaces
2 | $Q -- --mode=data | '--mode=data' is not a flag: flags begin with --, and a list of ids has no spaces
2 | $Q ---mode=data | no flag ---mode: did you mean --mode?
2 | $Q --k=many | --k is 'many': it must be an integer
2 | $Q --k=$DIGITS | --k is '...': it must be an integer
2 | $Q --distributed=maybe | --distributed is 'maybe': it must be true or false
2 | $Q --mode=train --history=A | --history is for --mode=recommend, not for --mode=train
2 | $Q --mode=train --user=A | --user is for --mode=recommend, not for --mode=train
2 | $Q --mode=train --k=10 | --k is for --mode=recommend and --mode=recommend_all, not for --mode=train
2 | $Q --mode=train --history=A --profile=x | --history is for --mode=recommend, not for --mode=train; --profile is for --mode=bench, not for --mode=train
2 | $Q --mode=train --export_k=5 | --export_k is for --mode=export, not for --mode=train
2 | $Q --noexact | --exact is for --mode=recommend and --mode=recommend_all, not for --mode=all
2 | $Q --temperature=1 --seed=1 | --temperature is for --mode=recommend and --mode=recommend_all, not for --mode=all; --seed is for --mode=recommend and --mode=recommend_all, not for --mode=all
2 | $Q --mode=check_data --distributed | --distributed is not for --mode=check_data
2 | --mode=check_data | no --config given: try --config=configs/quickstart.py, or --help
2 | --mode=check_data --config=configs/paper/table2.py:cpu | --mode=check_data is for a single run, and table2_cpu is an experiment of several runs: remove the flag
2 | --mode=doctor --distributed | --distributed is not for --mode=doctor
2 | --mode=doctor --config.train.steps=3 | no --config given: try --config=configs/quickstart.py, or --help
2 | --mode=doctor --workdir= | --workdir is empty
2 | $Q --profile=x | --profile is for --mode=bench, not for --mode=all
2 | $Q --mode=bench --profile= | --profile is empty
2 | --flagfile | --flagfile needs a value, as in --flagfile=VALUE
2 | --flagfile=nowhere | Unable to open flagfile: [Errno 2] No such file or directory: 'nowhere'
2 | --flagfile=folder | Unable to open flagfile: [Errno 21] Is a directory: 'folder'
2 | --flagfile=binary | the file of --flagfile is not text ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)
2 | --flagfile=help_flags | no flag --nonsense: did you mean --seed?
2 | --flagfile=names_itself | the file names_itself names itself with --flagfile: remove that line
2 | --flagfile=nul_workdir | --workdir is 'a\x00b': remove the NUL character

2 | $Q --config.evaluation.ensemble=True | config.evaluation.ensemble is True, but config.train.replicas is 1: train at least 2 replicas, or set config.evaluation.ensemble to False

## config files
2 | --config=missing.py | there is no config file 'missing.py': did you mean assertion.py?
2 | --config=nowhere/x.py | there is no config file 'nowhere/x.py': ...
2 | --config=configs/quickstart.pyx | there is no config file 'configs/quickstart.pyx': did you mean configs/quickstart.py?
2 | --config=configs/beauty.py:cpuu | configs/beauty.py: no variant 'cpuu': did you mean cpu? Choose from cpu, cpu_long, paper
2 | --config=configs/quickstart.py:cpu | configs/quickstart.py: it has no variants: remove :cpu
2 | --config=configs | --config is 'configs', which is not a file: name a file
2 | --config=/dev/null | --config is '/dev/null', which is not a file: name a file
2 | --config=loop | --config is 'loop', which is not a file: name a file
2 | --config=$NOT_UTF8.py | there is no config file '\udcff.py': did you mean nul.py?
2 | --config=$LONG | there is no config file '...': choose from assertion.py, ...
2 | --config=~nobody_has_this_name/x.py | --config is '~nobody_has_this_name/x.py', and there is no such home folder: name the whole path, or ./~nobody_has_this_name/x.py for a folder of that name
2 | --config=syntax.py | syntax.py, line 1: SyntaxError: invalid syntax
2 | --config=empty.py | empty.py: it has no function get_config()
2 | --config=number.py | number.py: it has no function get_config()
2 | --config=raises.py | raises.py, line 2: ZeroDivisionError: division by zero
2 | --config=assertion.py | assertion.py, line 2: AssertionError
2 | --config=name.py | name.py, line 2: NameError: name 'undefined_name' is not defined
2 | --config=two_lines.py | two_lines.py, line 2: ValueError: first second
2 | --config=long_text.py | long_text.py, line 2: ValueError: x x x ...
2 | --config=control.py | control.py, line 2: ValueError: [2J
2 | --config=key.py | key.py, line 1: KeyError: 'a b'
2 | --config=memory.py | memory.py, line 2: MemoryError
2 | --config=recursion.py | recursion.py, line 2: RecursionError: maximum recursion depth exceeded
2 | --config=exits.py | exits.py, line 2: SystemExit: 3
2 | --config=returns.py | returns.py: get_config() returned int: return a config that you got from config_dict.defaults()
2 | --config=nothing.py | nothing.py: get_config() returned NoneType: return a config that you got from config_dict.defaults()
2 | --config=nothing.py:cpu | nothing.py: it has no variants: remove :cpu
2 | --config=variant.py | variant.py: it needs a variant: append a colon and the name of the variant
2 | --config=imports.py | imports.py, line 1: ModuleNotFoundError: No module named 'no_such_module'
2 | --config=nul.py | nul.py: SyntaxError: source code string cannot contain null bytes
2 | --config=type.py | type.py, line 4: TypeError: Could not override field 'steps' (reference). x is of original type <class 'str'> and cannot be casted to type <class 'int'>
2 | --config=number_key.py | number_key.py: get_config() returned a config that cannot be read (TypeError: '<' not supported between instances of 'int' and 'str'): the keys must be text, and all values must be set
2 | --config=number_keys.py | config.embedding.3 is not a field; choose from ...
2 | --config=not_set.py | not_set.py: get_config() returned a config that cannot be read (RequiredValueError: None value found in required reference): the keys must be text, and all values must be set
2 | --config=field.py | config.train.stepz is not a field; did you mean steps?
2 | --config=none.py | config.train.steps is None: it must be of type int

## fields
2 | $Q --config.train.stepz=1 | config.train.stepz is not a field; did you mean steps?
2 | $Q --config.stepz=1 | config.stepz is not a field; did you mean seed?
2 | $Q --config.trian.steps=1 | config.trian is not a field; did you mean train?
2 | $Q --config.=3 | config. is not a field; choose from dataset, embedding, evaluation, model, parallel, seed, semantic_ids, train
2 | $Q --config.train.=3 | config.train. is not a field; choose from batch_size, evaluate_every, evaluate_users, length_buckets, log_every, on_non_finite, optimizer, packed, replicas, steps, steps_per_call
2 | $Q --config.train=3 | config.train is a section: set one of its fields, batch_size, evaluate_every, evaluate_users, length_buckets, log_every, on_non_finite, optimizer, packed, replicas, steps, steps_per_call
2 | $Q --noconfig.train | config.train is a section: set one of its fields, batch_size, evaluate_every, evaluate_users, length_buckets, log_every, on_non_finite, optimizer, packed, replicas, steps, steps_per_call
2 | $Q --config.train.steps.x=3 | config.train.steps is not a section: it has no 'x'
2 | $Q --config.train.steps | config.train.steps needs a value, as in --config.train.steps=800
2 | $Q --noconfig.train.steps | config.train.steps needs a value, as in --config.train.steps=800
2 | $Q --noconfig.train.steps=3 | --noconfig.train.steps=3: remove either the "no" or the value
2 | $Q --config.train.steps= | config.train.steps is '': it must be an integer
2 | $Q --config.train.steps=many | config.train.steps is 'many': it must be an integer
2 | $Q --config.train.steps=1.5 | config.train.steps is '1.5': it must be an integer
2 | $Q --config.train.steps=1e400 | config.train.steps is '1e400': it must be an integer
2 | $Q --config.train.steps=$DIGITS | config.train.steps is '...': it must be an integer
2 | $Q --config.train.steps=99999999999999999999 | config.train.steps is too large: choose at most 2,147,483,647
2 | $Q --config.train.steps=-1 | config.train.steps is -1: it must be positive
2 | $Q --config.seed=-1 | config.seed is -1: choose from [0, 2**32)
2 | $Q --config.embedding.dim=0 | config.embedding.dim is 0: it must be positive
2 | $Q --config.model.num_heads=0 | config.model.num_heads is 0: it must be positive
2 | $Q --config.train.optimizer.learning_rate=fast | config.train.optimizer.learning_rate is 'fast': it must be a number
2 | $Q --config.train.optimizer.learning_rate=nan | config.train.optimizer.learning_rate is nan: it must be positive and finite
2 | $Q --config.train.optimizer.learning_rate=1e400 | config.train.optimizer.learning_rate is inf: it must be positive and finite
2 | $Q --config.dataset.drop_short_users=maybe | config.dataset.drop_short_users is 'maybe': it must be true or false
2 | $Q --config.$NOT_UTF8=3 | config.? is not a field; choose from dataset, embedding, evaluation, model, parallel, seed, semantic_ids, train
2 | $Q --config.model.name=tigr | config.model.name is 'tigr': did you mean tiger? Choose from tiger, dsi, sasrec, bert4rec, gru4rec, matrix_factorization, two_tower, vq_rec, item_knn, transitions, popularity
2 | $Q --config.model.softmax=tries | config.model.softmax is 'tries': did you mean trie? Choose from all_codes, trie
2 | $Q --config.model.softmax=trie --config.model.name=dsi | config.model.softmax is 'trie', which only the model tiger supports: choose all_codes
2 | $Q --config.model.recency_bias=31 | config.model.recency_bias is '31': it must be true or false
2 | $Q --config.model.prefix_embeddings=-1 | config.model.prefix_embeddings is -1: it must not be negative
2 | $Q --config.train.optimizer.weight_decay=inf | config.train.optimizer.weight_decay is inf: it must be finite
2 | $Q --config.model.prefix_embeddings=0 | config.model.prefix_heads is True, but prefix_embeddings is 0: set prefix_embeddings to 32768, for example
2 | $Q --config.model.softmax=all_codes | config.model.history_bias is True, but softmax is 'all_codes': set softmax to 'trie', or history_bias to False
2 | $Q --config.model.prefix_embeddings=16777217 | config.model.prefix_embeddings is too large: choose at most 16,777,216
2 | $Q --config.model.prefix_dropout=1 | config.model.prefix_dropout is 1.0: choose from [0, 1)
2 | $Q --config.semantic_ids.codebook_sizes=8 | config.semantic_ids.codebook_sizes is '8': it must be a tuple, such as (32, 32, 32)
2 | $Q --config.semantic_ids.codebook_sizes='(8,' | config.semantic_ids.codebook_sizes is '(8,': it must be a tuple, such as (32, 32, 32)
2 | $Q --config.semantic_ids.codebook_sizes=$MINUSES1 | config.semantic_ids.codebook_sizes is '...1': it must be a tuple, such as (32, 32, 32)
2 | $Q --config.semantic_ids.codebook_sizes='(8,None)' | config.semantic_ids.codebook_sizes is None: it must be of type int
2 | $Q --config.semantic_ids.codebook_sizes='{8:8}' | config.semantic_ids.codebook_sizes is '{8:8}': it must be a tuple, such as (32, 32, 32)
2 | $Q --config.semantic_ids.hidden_dims='(8,' | config.semantic_ids.hidden_dims is '(8,': it must be a tuple, such as (256, 128)
2 | $Q --config.semantic_ids.hidden_dims=many | config.semantic_ids.hidden_dims is 'many': it must be a tuple, such as (256, 128)
2 | $Q --config.train.length_buckets='(0,)' | config.train.length_buckets is (0,): list positive lengths in ascending order
2 | $Q --config.dataset.source_dir=~nobody_has_this_name/x | config.dataset.source_dir is '~nobody_has_this_name/x', and there is no such home folder: name the whole path, or ./~nobody_has_this_name/x for a folder of that name
2 | $Q --config.train.stepz=1 --config.seed=2 --config.model.d_model=wide | config.train.stepz is not a field; did you mean steps?; config.model.d_model is 'wide': it must be an integer
2 | $Q --config.train.steps=99 | config.train.optimizer.warmup_steps is 100, more than the 99 training steps (config.train.steps): lower warmup_steps
2 | $Q --config.train.steps=50 --config.train.on_non_finite=rewind:99,skip:1 | config.train.optimizer.warmup_steps is 100, more than the 50 training steps (config.train.steps): lower warmup_steps; config.train.on_non_finite is 'rewind:99,skip:1': rewind fewer than 50 steps (config.train.steps), and skip at least one batch
2 | $Q --config.embedding.encoder=precomputed | config.embedding.path and config.embedding.ids_path must both be set for the encoder precomputed: set path to a .npy file of shape [items, dim], and ids_path to a JSON list of the item ids in the same order
2 | $Q --config.embedding.encoder=precomputed --config.model.name=sasrec --mode=embed | config.embedding.path and config.embedding.ids_path must both be set ...
2 | $Q --config.semantic_ids.quantizer=rq_vae --config.semantic_ids.kmeans_init=first_batch --config.semantic_ids.batch_size=9 --config.model.name=sasrec --mode=semantic_ids | config.semantic_ids.codebook_sizes has a level of 32 codes, and config.semantic_ids.kmeans_init is 'first_batch', but the first batch has 9 items: raise config.semantic_ids.batch_size to 32
2 | --config=configs/own_data.py | config.dataset.source_dir is empty: name the folder that holds your interactions and items

## folders
2 | $Q --workdir=file --mode=data | file is not a folder: choose another --workdir
2 | $Q --workdir=file/run --mode=data | .../file is not a folder: choose another --workdir
2 | $Q --workdir=/dev/null --mode=data | /dev/null is not a folder: choose another --workdir
2 | $Q --workdir=$LONG --mode=data | --workdir is '...', which cannot be used (File name too long): choose another
2 | $Q --workdir=~nobody_has_this_name/x --mode=data | --workdir is '~nobody_has_this_name/x', and there is no such home folder: name the whole path, or ./~nobody_has_this_name/x for a folder of that name
2 | $Q --mode=bench --profile=file --workdir=run | --profile is 'file', which cannot be used (File exists): name another folder
2 | $Q --mode=bench --profile=file/x --workdir=run | --profile is 'file/x', which cannot be used (Not a directory): name another folder
2 | $Q --mode=bench --profile=~nobody_has_this_name/x --workdir=run | --profile is '~nobody_has_this_name/x', and there is no such home folder: name the whole path, or ./~nobody_has_this_name/x for a folder of that name
2 | $Q --workdir=folder/../loop --mode=data | folder/../loop cannot be used (File exists): choose another --workdir
2 | $Q --workdir=. --mode=data | . is not empty, and is not the folder of a run: choose another --workdir, or if it is a copy of a run, `touch .lock`

## requests
2 | --mode=recommend --history=A | no --workdir given: name the folder of a finished run
2 | --mode=recommend --workdir=folder | the history is empty: give --history=ID,ID,... oldest first, or --user=ID
2 | --mode=recommend --workdir=folder --history= | the history is empty: give --history=ID,ID,... oldest first, or --user=ID
2 | --mode=recommend --workdir=folder --history=A,,B | --history is 'A,,B': remove the empty id ('')
2 | --mode=recommend --workdir=folder --history=A --deny=B, | --deny is 'B,': remove the empty id ('')
2 | --mode=recommend --workdir=folder --history=A --allow= | --allow is empty: name items, or remove the flag
2 | --mode=recommend --workdir=folder --history='A,"B' | --history is 'A,"B': it must be a list of ids
2 | --mode=recommend --workdir=folder --history=A, B | 'B' is not a flag: flags begin with --, and a list of ids has no spaces
2 | --mode=recommend --workdir=folder --user= | --user is empty
2 | --mode=recommend --workdir=folder --user | --user needs a value, as in --user=VALUE
2 | --mode=recommend --workdir=folder --user=a --history=A | --history and --user are both given: remove one of them
2 | --mode=recommend --workdir=folder --history=A --k=abc | --k is 'abc': it must be an integer
2 | --mode=recommend --workdir=folder --history=A --k=1e3 | --k is '1e3': it must be an integer
2 | --mode=recommend --workdir=folder --history=A --exact=maybe | --exact is 'maybe': it must be true or false
2 | --mode=recommend --workdir=folder --history=A --noexact=1 | --noexact=1 does not take an argument: remove the value
2 | --mode=recommend --workdir=folder --history=A --temperature=hot | --temperature is 'hot': it must be a number
2 | --mode=recommend --workdir=folder --history=A --temperature=0 | temperature is 0.0: choose from 0.001 to 1000
2 | --mode=recommend --workdir=folder --history=A --temperature=nan | temperature is nan: choose from 0.001 to 1000
2 | --mode=recommend --workdir=folder --history=A --transition_weight=1.5 | transition_weight is 1.5: choose from 0 to 1
2 | --mode=recommend --workdir=folder --history=A --seed=3 | drawn_levels and seed are for random draws: set a temperature too
2 | --mode=export --export_k=5 | no --workdir given: name the folder of a finished run
2 | --mode=export --workdir=folder --k=5 | --k is for --mode=recommend and --mode=recommend_all, not for --mode=export
2 | --mode=export --workdir=folder --export_dir= | --export_dir is empty
2 | --mode=export --workdir=folder --export_k=5,x | --export_k is '5,x': list integers, as in --export_k=1,8
2 | --mode=recommend --workdir=folder --history=A --temperature=1 --seed=-1 | seed is -1: choose 0 to 4294967295
2 | --mode=recommend --workdir=folder --history=A --temperature=1 --drawn_levels=0 | drawn_levels is 0: choose at least 1
2 | --mode=recommend $Q --history=A --config.train.steps=9 | --config.train.steps is not used by --mode=recommend, which reads the settings of the trained run
2 | --mode=recommend $Q --history=A --config.model.softmax=trie | --config.model.softmax is not used by --mode=recommend, which reads the settings of the trained run
2 | --mode=recommend $Q --history=A --workdir=folder | --config is not used by --mode=recommend, which reads the settings of the run in --workdir
2 | --mode=recommend --history=A --workdir=folder --distributed | --distributed is not for --mode=recommend
2 | --mode=recommend --history=A --workdir=folder --out=x | --out is for --mode=recommend_all, not for --mode=recommend
2 | --mode=recommend_all --workdir=folder --history=A | --history is for --mode=recommend, not for --mode=recommend_all
2 | --mode=recommend_all --workdir=folder --out= | --out is empty
2 | --mode=recommend_all --workdir=folder --allow= | --allow is empty: name items, or remove the flag
2 | --mode=recommend_all --workdir=folder --format=csv | --format is 'csv': choose from parquet, jsonl
2 | --mode=recommend_all --workdir=folder --temperature=0 | temperature is 0.0: choose from 0.001 to 1000
2 | --mode=report | no --workdir given: name the folder of a finished run
2 | --mode=report --workdir=folder --history=A | --history is for --mode=recommend, not for --mode=report
2 | --mode=report $Q --config.train.steps=9 | --config.train.steps is not used by --mode=report, which reads the settings of the trained run
2 | --mode=report --workdir=folder --distributed | --distributed is not for --mode=report
2 | --mode=report --workdir=runs/quickstrt | there is no folder runs/quickstrt: did you mean runs/quickstart?
3 | --mode=report --workdir=folder | folder has no evaluation to report: repeat the command of the run with --workdir=folder --mode=evaluate first
2 | --mode=recommend --history=A --workdir=file | file is not a folder: choose another --workdir
2 | --mode=recommend --history=A --workdir=runs/quickstrt | there is no folder runs/quickstrt: did you mean runs/quickstart?
2 | --mode=recommend --history=A --workdir=other | there is no folder other: name the folder of a finished run
4 | --mode=recommend --history=A --workdir=folder | folder has no finished stage 'train': repeat the command of the run with --workdir=folder --mode=train first
4 | --mode=recommend --user=u1 --workdir=folder | folder has no finished stage 'train': repeat the command of the run with --workdir=folder --mode=train first
4 | --mode=recommend $Q --user=u1 | runs/quickstart has no finished stage 'train': repeat the command of the run with --workdir=runs/quickstart --mode=train first

## recommend
2 | $ASK --user=u99 | no user 'u99' in the data of the run: did you mean 'u9' or 'u49' or 'u39'?
2 | $ASK --user=U3 | no user 'U3' in the data of the run: did you mean 'u3'?
2 | $ASK --user=u3,u4 | no user 'u3,u4' in the data of the run: did you mean 'u34' or 'u4' or 'u3'?
2 | $ASK --user=$ESCAPE[2J | no user '\x1b[2J' in the data of the run: ids look like 'u0'
2 | $ASK --user=$NOT_UTF8 | no user '\udcff' in the data of the run: ids look like 'u0'
2 | $ASK --user=$LONG | no user 'aaa...aaa' in the data of the run: ids look like 'u0'
2 | $ASK --user=u3 --k=0 | --k is 0: choose at least 1
2 | $ASK --user=u3 --deny=X | no item 'X' in the catalog: ids look like 'A031'
2 | $ASK --history=ZZZ | no item 'ZZZ' in the catalog: ids look like 'A031'
2 | $ASK --history=A001,A0O2 | no item 'A0O2' in the catalog (1 of 2 ids in history are unknown): did you mean 'A032' or 'A029' or 'A028'?
2 | $ASK --history=A001$NEWLINEA002 | --history is 'A001 A002': it must be a list of ids
2 | $ASK --history=A001 --allow=X | no item 'X' in the catalog: ids look like 'A031'
2 | $ASK --history=A001 --temperature=1 --drawn_levels=9 | drawn_levels is 9, but the Semantic IDs have 4 codes: choose at most 4
2 | $ALL --k=0 | --k is 0: choose at least 1
2 | $ALL --batch_size=0 | batch_size is 0: choose 1 to 1048576
2 | $ALL --deny=X | no item 'X' in the catalog: ids look like 'A031'
2 | $ALL --histories=h.csv | --histories is 'h.csv': name a .jsonl or a .parquet file
2 | $ALL --out=file | file cannot be used (File exists): choose another --out
2 | $ALL --out=raw | raw is not empty, and does not hold recommendations: choose another --out
3 | $ALL --histories=nowhere.jsonl | nowhere.jsonl cannot be read (No such file or directory): name a readable .jsonl or .parquet file with --histories
3 | $ALL --histories=histories.jsonl | histories.jsonl, line 2: history is the text 'A001': put it in a list, ['A001']
4 | --mode=recommend_all --workdir=folder | folder has no finished stage 'train': repeat the command of the run with --workdir=folder --mode=train first

## experiments
2 | $EXPERIMENT --mode=train | --mode=train is for a single run, and table2_cpu is an experiment of several runs: remove the flag
2 | $EXPERIMENT --mode=recommend --history=A | --mode=recommend is for a single run, and table2_cpu is an experiment of several runs: remove the flag
2 | $EXPERIMENT --config.base.train.steps=9 | beauty, random: config.train.optimizer.warmup_steps is 100, more than the 9 training steps (config.train.steps): lower warmup_steps
2 | $EXPERIMENT --config.base.train.stepz=1 | config.base.train.stepz is not a field; did you mean steps?
2 | $EXPERIMENT --config.runs.random=3 | config.runs.random is a section: set one of its fields, semantic_ids
2 | $EXPERIMENT --config.measured=3 | config.measured is '3': it must be a tuple, such as ('beauty',)
2 | $EXPERIMENT --config.measured='("nowhere",)' | config.measured names 'nowhere': choose from 'beauty', 'sports', 'toys'
2 | $EXPERIMENT --config.order='("nothing",)' | config.order names 'nothing': choose from 'LSH', 'OPQ', 'RQ-KMeans', 'RQ-VAE', 'VQ-VAE', 'hierarchical k-means', 'random'
2 | $EXPERIMENT --config.order='(1,)' | config.order is (1,): it must be a tuple of names, as in configs/paper/specs.py
2 | $EXPERIMENT --config.table='()' | config.order names 'random': choose from config.table
2 | $EXPERIMENT --config.columns='(3,)' | config.columns is (3,): it must be a tuple of names, as in configs/paper/specs.py
2 | --config=experiment.py | config.base is None: it must be a section, as in configs/paper/specs.py
2 | --config=experiment_runs.py | config.runs is {'r': 3}: it must be a section of sections, as in configs/paper/specs.py
2 | --config=experiment_shop_runs.py | config.datasets.a.runs is 3: it must be a section of sections, as in configs/paper/specs.py
2 | --config=experiment_shop_run.py | config.datasets.a.runs is {'r': 4}: it must be a section of sections, as in configs/paper/specs.py

## environment
2 | JAX_PLATFORMS=cuda $Q --mode=data | JAX_PLATFORMS is 'cuda', but JAX finds only cpu on this machine: unset the variable, or set it to cpu
2 | JAX_PLATFORMS= JAX_PLATFORM_NAME=cuda $Q --mode=data | JAX_PLATFORM_NAME is 'cuda', but JAX finds only cpu on this machine (...): unset the variable, or set it to cpu
2 | JAX_PLATFORMS= JAX_NUM_CPU_DEVICES=0 $Q --mode=data | JAX finds no device (...): unset JAX's environment variables, such as JAX_NUM_CPU_DEVICES, or correct them
2 | JAX_NUM_CPU_DEVICES=0 $Q --mode=data | JAX finds no device (...): unset JAX's environment variables, such as JAX_NUM_CPU_DEVICES, or correct them
2 | JAX_ENABLE_X64=maybe --config=configs/baselines.py --workdir=x --mode=data | JAX cannot be imported (invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'): unset the environment variable, or correct it
2 | JAX_ENABLE_X64=maybe $Q --mode=data | JAX cannot be imported (invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'): unset the environment variable, or correct it
2 | JAX_COORDINATOR_ADDRESS=x JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=5 $Q --mode=data --distributed | JAX_COORDINATOR_ADDRESS is 'x': set it to the host of process 0 and a free port, as in 10.0.0.1:1234

## data
3 | $AMAZON/no_reviews | raw/no_reviews/reviews_Beauty_5.json.gz does not exist: put the file there or name another folder
3 | $AMAZON/no_meta | raw/no_meta/meta_Beauty.json.gz does not exist: put the file there or name another folder
3 | $AMAZON/nowhere | raw/nowhere/reviews_Beauty_5.json.gz does not exist: put the file there or name another folder
3 | $AMAZON/reviews_html | raw/reviews_html/reviews_Beauty_5.json.gz is a web page, not gzip: delete it and download it again
3 | $AMAZON/meta_html | raw/meta_html/meta_Beauty.json.gz is a web page, not gzip: delete it and download it again
3 | $AMAZON/reviews_truncated | raw/reviews_truncated/reviews_Beauty_5.json.gz is damaged (Compressed file ended before the end-of-stream marker was reached): download or copy it again
3 | $AMAZON/meta_truncated | raw/meta_truncated/meta_Beauty.json.gz is damaged (Compressed file ended before the end-of-stream marker was reached): download or copy it again
3 | $AMAZON/reviews_cut | raw/reviews_cut/reviews_Beauty_5.json.gz, line 3 is not a record (a JSON object or a Python dict on one line): correct or remove it; or drop bad rows with config.dataset.max_bad_share
3 | $AMAZON/meta_cut | raw/meta_cut/meta_Beauty.json.gz, line 3 is not a record (a JSON object or a Python dict on one line): correct or remove it; or drop bad rows with config.dataset.max_bad_share
3 | $AMAZON/reviews_number | raw/reviews_number/reviews_Beauty_5.json.gz, line 3 is not a record (a JSON object or a Python dict on one line): correct or remove it; or drop bad rows with config.dataset.max_bad_share
3 | $AMAZON/meta_number | raw/meta_number/meta_Beauty.json.gz, line 3 is not a record (a JSON object or a Python dict on one line): correct or remove it; or drop bad rows with config.dataset.max_bad_share
3 | $AMAZON/reviews_code | raw/reviews_code/reviews_Beauty_5.json.gz, line 3 is not a record (a JSON object or a Python dict on one line): correct or remove it; or drop bad rows with config.dataset.max_bad_share
3 | $AMAZON/meta_code | raw/meta_code/meta_Beauty.json.gz, line 3 is not a record (a JSON object or a Python dict on one line): correct or remove it; or drop bad rows with config.dataset.max_bad_share
3 | $AMAZON/reviews_long | raw/reviews_long/reviews_Beauty_5.json.gz, line 3 is not a record (a JSON object or a Python dict on one line): correct or remove it; or drop bad rows with config.dataset.max_bad_share
3 | $AMAZON/meta_long | raw/meta_long/meta_Beauty.json.gz, line 3 is not a record (a JSON object or a Python dict on one line): correct or remove it; or drop bad rows with config.dataset.max_bad_share
3 | $AMAZON/item_without_metadata | raw/item_without_metadata/reviews_Beauty_5.json.gz names 1 items that are not in raw/item_without_metadata/meta_Beauty.json.gz, such as 'D': add them or set config.dataset.allow_missing_metadata=True
3 | $AMAZON/short_user | raw/short_user/reviews_Beauty_5.json.gz has 1 users with fewer than 3 events, such as 'w' with 2: add events or set config.dataset.drop_short_users=True

## stages
3 | $Q --workdir=run --config.dataset.synthetic_users=5 --config.train.batch_size=8000 | dataset synthetic has 8 training examples, fewer than one batch of 8000: set config.train.batch_size to 8 or less, or add users with four or more events
2 | $Q --workdir=run --config.parallel.fsdp=3 --mode=train | config.parallel.fsdp x tensor is 3 x 1, which does not divide the number of devices, 1: lower fsdp or tensor, or train on more devices
2 | $Q --workdir=run --config.dataset.synthetic_users=5 --config.semantic_ids.codebook_sizes='(601,8)' --mode=semantic_ids | config.semantic_ids.codebook_sizes (601, 8) have more codes than there are items, 600: try --config.semantic_ids.codebook_sizes='(128, 128, 128)'
2 | $Q --workdir=run --config.dataset.synthetic_users=5 --config.semantic_ids.codebook_sizes='(601,8)' --mode=all | config.semantic_ids.codebook_sizes (601, 8) have more codes than there are items, 600: try --config.semantic_ids.codebook_sizes='(128, 128, 128)'
2 | $Q --workdir=run --config.dataset.synthetic_users=5 --config.semantic_ids.codebook_sizes='(601,8)' --mode=bench | config.semantic_ids.codebook_sizes (601, 8) have more codes than there are items, 600: try --config.semantic_ids.codebook_sizes='(128, 128, 128)'
2 | $Q --workdir=run --mode=data --config.dataset.name=synthetik | config.dataset.name is 'synthetik': did you mean 'synthetic'?
2 | $Q --workdir=run --mode=data --config.dataset.name=$NOT_UTF8 | config.dataset.name is '\udcff': did you mean 'yelp'?
"""
