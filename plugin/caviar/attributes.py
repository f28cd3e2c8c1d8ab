"""The keys of every attribute that caviar writes on studies and trials, and who writes and reads each.

The values are Optuna attributes, so they live as long as the study does: never rename a key, and never reuse one.
Keys without a prefix are shown to people in optuna-dashboard; keys that begin with ``caviar:`` are bookkeeping.
"""

from typing import Final

# Study, user attributes -------------------------------------------------------------------------------------------
#: The study file's contents as JSON. Written when the study is created; read by every command that opens it.
SPEC: Final = "caviar:spec"
#: SHA-256 of the study file, budget and workers aside. Written with SPEC; a run compares it before it resumes.
DIGEST: Final = "caviar:spec_sha256"
#: The study's identity: another study that later takes its name has another one. Written when the study is created;
#: names its checkpoints, and marks its runs in MLflow.
STUDY_UID: Final = "caviar:uid"
#: The data set's fingerprint. Written when the study is created; workers compare it with the data they load.
FINGERPRINT: Final = "data_fingerprint"
#: One line about the data set, for people. Written when the study is created; the report shows it.
DATA: Final = "data"
#: What guessing gives on the validation split. Written when the study is created; the report's advice starts from it.
GUESS: Final = "caviar:guess"
#: The versions of Python and the libraries that the study was begun with, as JSON. `doctor` compares them.
ENVIRONMENT: Final = "environment"
#: The seed of what a zoom or a warm-started study draws. With its parent's seed, whose data split it shares, its
#: trials would land in the same places of every range again. Written when such a study is created; samplers read it.
SAMPLING_SEED: Final = "caviar:sampling_seed"
#: Where the stages of the sampler `zoom` begin, as JSON. Written when a run starts; samplers and the report read it.
STAGES: Final = "caviar:stages"
#: What a study took over from the one named by `run --from`, as JSON. Samplers, status and the report read it.
WARM_START: Final = "caviar:warm_start"
#: The name of the study that a zoom was narrowed from, and a study's zooms. Written by `zoom`; the report follows them.
PARENT: Final = "caviar:parent"
CHILDREN: Final = "caviar:children"
#: What a study was created with that the service gives out by ask and tell, as JSON. Written and read by the service.
ASKED: Final = "caviar:asked"
#: How a zoom was narrowed, as JSON. Written by `zoom`, which reads it to continue an unfinished one.
ZOOM: Final = "caviar:zoom"
#: What a race was begun with, as JSON: its numbers, and the candidates. Written and read by `champion`.
RACE: Final = "caviar:race"
#: What an ensemble and its members reached on each cut of the data, as JSON. Written and read by `champion`.
ENSEMBLE: Final = "caviar:ensemble"
#: When a champion was tested, and what came out, as JSON. Written and read by `champion`, which tests once.
TESTED: Final = "caviar:tested"

# Study, system attributes -----------------------------------------------------------------------------------------
#: When which worker found no trial to run. Written and read by workers, which share what they have not begun.
IDLE: Final = "caviar:idle"

# Trial, user attributes -------------------------------------------------------------------------------------------
#: Every metric by epoch. Written at a trial's end or when it is parked; MLflow and the report show them.
CURVES: Final = "curves"
#: The best epoch's metric and that epoch's number, from 0. Written with CURVES.
BEST_VALUE: Final = "best_value"
BEST_EPOCH: Final = "best_epoch"
#: Whether the loss became NaN or infinite. Written with CURVES; samplers, pruners and the report read it.
DIVERGED: Final = "diverged"
#: Seconds of training. Written with CURVES; zooms and the report read it.
TRAIN_SECONDS: Final = "train_seconds"
#: Why the best trial's network could not be saved. Written when it is the best at its end; `status` shows it.
NETWORK_LOST: Final = "network_lost"
#: What a network of the user's own was found, or said, to give: ``logits`` or ``probabilities``. Written with CURVES.
NETWORK_OUTPUT: Final = "network_output"
#: Why a trial failed, in one line. Written when it fails; `trials` and the report show it.
FAIL_REASON: Final = "fail_reason"
#: What was changed by hand while a trial ran, in order, as `Intervention.to_json` has it. Written when it takes effect;
#: replays, samplers, MLflow and the report read it.
INTERVENTIONS: Final = "caviar:interventions"
#: The same in words, for people. Written with INTERVENTIONS; optuna-dashboard shows it.
CHANGES: Final = "interventions"
#: The trial that a fork was forked from, and after which epoch. Written when it is forked; shown to people.
FORKED_FROM: Final = "forked_from"
#: Which of a race's candidates a trial trains, and in which round. Written and read by `champion`.
CANDIDATE: Final = "candidate"
ROUND: Final = "round"
#: The number that a zoom's copied trial has in its parent. Written by `zoom`; budgets and MLflow leave copies out.
PARENT_TRIAL: Final = "parent_trial"

# Trial, system attributes -----------------------------------------------------------------------------------------
#: The worker that holds a trial's lease, `host:pid:token`. Written by a claim; every later write checks it.
OWNER: Final = "caviar:owner"
#: Marks a WAITING trial that only a promotion may claim. Written when it is parked; removed by its promotion.
PAUSED: Final = "caviar:paused"
#: Marks a WAITING trial that was paused by hand: nobody claims it until it is resumed. Written and removed by
#: `control`.
HELD: Final = "caviar:held"
#: Marks a WAITING trial that was resumed by hand at a rung: its next claim takes it beyond. Written by `control`,
#: removed by the claim.
RESUMED: Final = "caviar:resumed"
#: Marks a trial under somebody's eyes: its curves are stored and a checkpoint is kept after every epoch.
WATCHED: Final = "caviar:watched"
#: Begins the keys of what is asked of a running trial. Written by `control`; the worker's answer goes under the key.
REQUEST: Final = "caviar:request:"
#: The number that a fork's seeds derive from. Written when it is forked; claims and replays read it.
ORIGIN: Final = "caviar:origin"
#: How many workers died with the trial. Written when it is handed on; a trial that killed one trains alone.
DEATHS: Final = "caviar:deaths"
#: The numbers of the trials that a retry repeats, first to last: Optuna's own key. Seeds derive from the first.
RETRY_HISTORY: Final = "retry_history"
#: The parameters that `enqueue_trial` gave a trial: Optuna's own key. Drawing and counting failures read it.
ENQUEUED: Final = "fixed_params"
#: The first of them: Optuna's own key. Written with RETRY_HISTORY; its tools read it.
FAILED_TRIAL: Final = "failed_trial"
