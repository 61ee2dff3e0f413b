"""UniGloR: sign languages from body keypoints, without glosses.

Importing this package registers its models with transformers' Auto classes, and its pipelines.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_uniglor import VERSION as __version__
from .configuration_uniglor import SignMAEConfig, SignRecognitionConfig, SignToTextConfig, TextToSignConfig
from .keypoint_clip_uniglor import KeypointClip
from .keypoint_processing_uniglor import Calibration, KeypointProcessor, ProcessedClip, map_layout
from .keypoint_readers_uniglor import clip_from_array, read_keypoints, read_skels
from .keypoint_weighting_uniglor import keypoint_weights, part_variances
from .keypoints_uniglor import LAYOUTS, SOURCE_LAYOUTS, adjacency
from .modeling_sign_mae import SignMAE, SignMAEDecoderModel, SignMAEEncoderModel, SignMAEOutput
from .modeling_sign_recognition import SignRecognition
from .modeling_sign_to_text import SignToText, SignToTextOutput
from .modeling_text_to_sign import GeneratedSigning, LengthRegulator, TextToSign, TextToSignOutput
from .pipelines_uniglor import SignFeatureExtractionPipeline, SignRecognitionPipeline, SignToTextPipeline, TextToSignPipeline
from .quantization_uniglor import quantize
from .streaming_uniglor import SignToTextStreamer

for config, model in (
    (SignMAEConfig, SignMAE),
    (SignToTextConfig, SignToText),
    (TextToSignConfig, TextToSign),
    (SignRecognitionConfig, SignRecognition),
):
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, model)
    AutoFeatureExtractor.register(config, KeypointProcessor)
AutoModelForSequenceClassification.register(SignRecognitionConfig, SignRecognition)
for task, pipeline, reads in (
    ("sign-to-text", SignToTextPipeline, "multimodal"),
    ("text-to-sign", TextToSignPipeline, "text"),
    ("sign-recognition", SignRecognitionPipeline, "multimodal"),
    ("sign-feature-extraction", SignFeatureExtractionPipeline, "multimodal"),
):
    PIPELINE_REGISTRY.register_pipeline(task, pipeline_class=pipeline, pt_model=AutoModel, type=reads)

__all__ = [
    "LAYOUTS",
    "SOURCE_LAYOUTS",
    "Calibration",
    "GeneratedSigning",
    "KeypointClip",
    "KeypointProcessor",
    "LengthRegulator",
    "ProcessedClip",
    "SignFeatureExtractionPipeline",
    "SignMAE",
    "SignMAEConfig",
    "SignMAEDecoderModel",
    "SignMAEEncoderModel",
    "SignMAEOutput",
    "SignRecognition",
    "SignRecognitionConfig",
    "SignRecognitionPipeline",
    "SignToText",
    "SignToTextConfig",
    "SignToTextOutput",
    "SignToTextPipeline",
    "SignToTextStreamer",
    "TextToSign",
    "TextToSignConfig",
    "TextToSignOutput",
    "TextToSignPipeline",
    "__version__",
    "adjacency",
    "clip_from_array",
    "keypoint_weights",
    "map_layout",
    "part_variances",
    "quantize",
    "read_keypoints",
    "read_skels",
]
