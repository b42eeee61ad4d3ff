"""What type checkers see of the names that `hfgen` resolves on first use."""

from hfgen import metrics as metrics
from hfgen.evaluation.callback import EvaluatorCallback as EvaluatorCallback
from hfgen.evaluation.evaluate import evaluate as evaluate
from hfgen.evaluation.evaluator import Evaluator as Evaluator
from hfgen.evaluation.training_metrics import ReconstructionsMetric as ReconstructionsMetric
from hfgen.evaluation.training_metrics import SamplesMetric as SamplesMetric
from hfgen.library import compare as compare
from hfgen.library import diagnose as diagnose
from hfgen.library import train as train
from hfgen.pipelines import ALIPipeline as ALIPipeline
from hfgen.pipelines import FlowPipeline as FlowPipeline
from hfgen.pipelines import GANPipeline as GANPipeline
from hfgen.pipelines import TranslationPipeline as TranslationPipeline
from hfgen.pipelines import VAEGANPipeline as VAEGANPipeline
from hfgen.pipelines import VAEPipeline as VAEPipeline
from hfgen.pipelines import VQGANPipeline as VQGANPipeline
from hfgen.pipelines import VQVAEPipeline as VQVAEPipeline
from hfgen.pipelines import load as load

__version__: str
__all__: list[str]
