"""Vision-language models of several classes with random weights, small enough for tests, as folders like a hub's.

Their tokenizers know single bytes and the special tokens of the class. SmolVLM's chat template is the released one,
which Idefics3 shares; the others are short ones of the same kind as the released ones.
"""

from importlib.util import find_spec

import pytest
from builders import some
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipImageProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
    set_seed,
)
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE as SMOLVLM  # released, as it is

from cadvlm.learn.conversations import load_conversations, make_tiny

SIDE = 28  # pixels of a side that the towers see
TEXT = dict(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
)
VISION = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=14
)

SMALL = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=2048,
)


def tokenizer(marks, adds_begin=False, named=None, **special):
    "A tokenizer of bytes; with `adds_begin` it puts its begin-of-text token in front of a text, as Gemma's does."
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {t: i for i, t in enumerate([*special.values(), *marks, *alphabet])}
    bare = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if adds_begin:
        begin = special["bos_token"]
        bare.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, vocabulary[begin])]
        )
    bare.add_special_tokens([*special.values(), *marks])
    return PreTrainedTokenizerFast(tokenizer_object=bare, extra_special_tokens=named or {}, **special)


def qwen(path):
    "Qwen2.5-VL: its projector, the merger, is a part of the vision tower."
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words = tokenizer(marks, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    id = words.convert_tokens_to_ids
    ids = dict(
        image_token_id=id("<|image_pad|>"),
        video_token_id=id("<|video_pad|>"),
        vision_start_token_id=id("<|vision_start|>"),
        vision_end_token_id=id("<|vision_end|>"),
    )
    text = TEXT | dict(
        vocab_size=len(words),
        rope_scaling=dict(type="mrope", mrope_section=[2, 3, 3]),
        pad_token_id=words.pad_token_id,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
    )
    vision = dict(
        depth=2,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        out_hidden_size=64,
        patch_size=14,
        window_size=56,
        fullatt_block_indexes=[1],
    )
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    )
    size = dict(min_pixels=56 * 56, max_pixels=56 * 56)
    save(
        path,
        model,
        Qwen2_5_VLProcessor(
            Qwen2VLImageProcessor(**size), words, Qwen2VLVideoProcessor(**size), chat_template=template
        ),
    )


def gemma3(path):
    "Gemma 3: template and tokenizer both know how a text begins; embeddings are tied."
    named = dict(boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>")
    words = tokenizer(
        ["<start_of_turn>", "<end_of_turn>", *named.values()],
        True,
        named,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
    )
    template = (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] | trim }}{% endif %}"
        "{% endfor %}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    )
    id = words.convert_tokens_to_ids
    text = TEXT | dict(
        vocab_size=len(words),
        head_dim=16,
        sliding_window=64,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=VISION,
        mm_tokens_per_image=4,
        image_token_id=id("<image_soft_token>"),
        image_token_index=id("<image_soft_token>"),
        boi_token_index=id("<start_of_image>"),
        eoi_token_index=id("<end_of_image>"),
    )
    images = Gemma3ImageProcessor(size=dict(height=SIDE, width=SIDE))
    model = Gemma3ForConditionalGeneration(config)
    nn.init.normal_(
        model.model.multi_modal_projector.mm_input_projection_weight, std=0.1
    )  # without training it is 0, and nothing of an image goes through
    save(path, model, Gemma3Processor(images, words, chat_template=template, image_seq_length=4))


def paligemma(path):
    "PaliGemma: no chat template; the prompt is read in both directions, the answer from left to right."
    words = tokenizer(["<image>"], pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    images = SiglipImageProcessor(size=dict(height=SIDE, width=SIDE), image_seq_length=4)
    images.image_seq_length = 4
    processor = PaliGemmaProcessor(images, words)
    text = TEXT | dict(
        model_type="gemma",
        head_dim=16,
        vocab_size=len(words),
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=VISION | dict(model_type="siglip_vision_model", projection_dim=64),
        projection_dim=64,
        image_token_id=processor.image_token_id,
        image_token_index=processor.image_token_id,
    )
    save(path, PaliGemmaForConditionalGeneration(config), processor)


def ends(words):
    "The settings of a language model that its tokenizer knows."
    return dict(
        vocab_size=len(words),
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )


def qwen3(path):
    "Qwen3-VL: the language model gets layers of the tower at several depths, each through a merger of its own."
    marks = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words = tokenizer(marks, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    names = dict(image="image_pad", video="video_pad", vision_start="vision_start", vision_end="vision_end")
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(f"<|{mark}|>") for name, mark in names.items()}
    rope = dict(rope_type="default", mrope_section=[2, 3, 3], mrope_interleaved=True, rope_theta=1e4)
    text = SMALL | dict(head_dim=16, rope_parameters=rope) | ends(words)
    vision = dict(
        depth=2,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        out_hidden_size=32,
        patch_size=14,
        num_position_embeddings=16,
        deepstack_visual_indexes=[0],
    )
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    size = dict(patch_size=14, size=dict(shortest_edge=28 * 28, longest_edge=56 * 56))
    images, videos = Qwen2VLImageProcessor(**size), Qwen3VLVideoProcessor(**size)
    processor = Qwen3VLProcessor(images, words, videos, chat_template=CHATML.format(image=QWEN_IMAGE))
    save(path, Qwen3VLForConditionalGeneration(config), processor)


CHATML = (
    "{{% for m in messages %}}<|im_start|>{{{{ m['role'] }}}}\n{{% for c in m['content'] %}}"
    "{{% if c['type'] == 'image' %}}{image}{{% else %}}{{{{ c['text'] }}}}{{% endif %}}{{% endfor %}}<|im_end|>\n"
    "{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def internvl(path):
    "InternVL: images are cut into tiles, a thumbnail behind them, and a tile's tokens are joined four to one."
    named = dict(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    words = tokenizer(
        ["<|im_start|>", *named.values()], named=named, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    text = SMALL | dict(model_type="qwen2") | ends(words)
    config = InternVLConfig(
        text_config=text,
        vision_config=VISION | dict(patch_size=7),
        image_token_id=words.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=True,
    )
    size = dict(height=SIDE, width=SIDE)
    images = GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4)
    template = CHATML.format(image="<IMG_CONTEXT>\n")
    videos = InternVLVideoProcessor(size=size)
    processor = InternVLProcessor(images, words, videos, image_seq_length=4, chat_template=template)
    save(path, InternVLForConditionalGeneration(config), processor)


def onevision(path):
    "LLaVA-OneVision: an image is seen as a whole and in tiles; samples have different numbers of tiles."
    named = dict(image_token="<image>", video_token="<video>")
    words = tokenizer(
        ["<|im_start|>", *named.values()], named=named, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    template = (  # images first; and a turn that is there begins otherwise than one that is to come
        "{% for m in messages %}<|im_start|>{{ m['role'] }} "
        "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}<image>{% endfor %}"
        "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}\n{{ c['text'] }}{% endfor %}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    grid = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaOnevisionConfig(
        text_config=SMALL | dict(model_type="qwen2", tie_word_embeddings=False) | ends(words),
        vision_config=VISION | dict(model_type="siglip_vision_model", vision_use_head=False),
        image_token_index=words.image_token_id,
        video_token_index=words.video_token_id,
        image_grid_pinpoints=grid,
        vision_aspect_ratio="anyres_max_9",
    )
    size = dict(height=SIDE, width=SIDE)
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grid),
        words,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template,
    )
    save(path, LlavaOnevisionForConditionalGeneration(config), processor)


ROWS = [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)]
TILES = ["<fake_token_around_image>", "<image>", "<global-img>", *ROWS]


def tiled(config, images, words):
    "What Idefics3 and SmolVLM have in common: a configuration, and an image processor that cuts tiles."
    size = dict(size=dict(longest_edge=2 * SIDE), max_image_size=dict(longest_edge=SIDE))
    made = config(
        text_config=SMALL | dict(model_type="llama") | ends(words),
        vision_config=VISION,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=False,
    )
    return made, images(do_image_splitting=True, **size)


def idefics3(path):
    "Idefics3: an answer does not end with the token that ends a text."
    words = tokenizer(
        [*TILES, "<end_of_utterance>"], True, pad_token="<pad>", bos_token="<begin>", eos_token="<end_of_text>"
    )
    config, images = tiled(Idefics3Config, Idefics3ImageProcessor, words)
    template = SMOLVLM.replace("<|im_start|>", "<begin>")
    processor = Idefics3Processor(images, words, image_seq_len=1, chat_template=template)
    save(path, Idefics3ForConditionalGeneration(config), processor)


def smolvlm(path):
    "SmolVLM: Idefics3 with other tokens. Its processor wants `num2words`, for videos."
    words = tokenizer(
        [*TILES, "<video>"], True, pad_token="<|im_end|>", bos_token="<|im_start|>", eos_token="<end_of_utterance>"
    )
    config, images = tiled(SmolVLMConfig, SmolVLMImageProcessor, words)
    videos = SmolVLMVideoProcessor(size=dict(longest_edge=SIDE), num_frames=1, fps=1)
    save(
        path,
        SmolVLMForConditionalGeneration(config),
        SmolVLMProcessor(images, words, videos, image_seq_len=1, chat_template=SMOLVLM),
    )


def save(path, model, processor):
    model.generation_config.update(
        pad_token_id=processor.tokenizer.pad_token_id, eos_token_id=processor.tokenizer.eos_token_id
    )
    model.save_pretrained(path), processor.save_pretrained(path)


CLASSES = dict(
    qwen=qwen,
    qwen3=qwen3,
    gemma3=gemma3,
    internvl=internvl,
    onevision=onevision,
    idefics3=idefics3,
    smolvlm=smolvlm,
    paligemma=paligemma,
)
# the token that ends an answer; it is not the one that ends a text for Gemma 3 and Idefics3
ENDS = dict(
    llava="</s>",
    gemma3="<end_of_turn>",
    idefics3="<end_of_utterance>",
    smolvlm="<end_of_utterance>",
    paligemma="<eos>",
) | dict.fromkeys(("qwen", "qwen3", "internvl", "onevision"), "<|im_end|>")


def cases(*left_out, every=1):
    "All classes but some, or one of so many, to parametrise tests; `llava` is the tiny model of the package."
    lacking = pytest.mark.skipif(
        find_spec("num2words") is None, reason="SmolVLM's processor wants num2words, for videos: pip install num2words"
    )
    names = some([name for name in ENDS if name not in left_out], every)
    marks = dict(smolvlm=lacking)
    return pytest.mark.parametrize("name", [pytest.param(n, marks=marks.get(n, ()), id=n) for n in names])


def base(folder, name):
    "The folder of a base by the name of its class, made once below that of its conversations; the same every time."
    path = folder / name
    if path.exists():
        return path
    if name == "llava":
        make_tiny(path, load_conversations(folder / "train.json", folder), image_size=32)
    else:
        set_seed(0)
        CLASSES[name](path)
    return path
